package exits

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/criruntime/criruntime/oci/shim/api"
)

// file is the container's exit in its bundle.
const file = "exit.json"

// record is an oci.Exit as the exit file holds it.
type record struct {
	ID         string    `json:"id"`
	Code       int32     `json:"code"`
	FinishedAt time.Time `json:"finishedAt"`
	OOMKilled  bool      `json:"oomKilled,omitempty"`
}

// Write writes the exit into the bundle of its container.
func Write(bundle string, e *api.Exit) error {
	b, err := json.Marshal(record{e.Id, e.Code, time.Unix(0, e.FinishedAt).UTC(), e.OomKilled})
	if err != nil {
		return err
	}
	path := filepath.Join(bundle, file)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("cannot write the exit file: %v", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("cannot write the exit file: %v", err)
	}
	return nil
}
