package host

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Localtime finds the file of a time zone: "local" for the machine's own, or a
// name of its database, such as "Europe/Berlin". "" is none.
func Localtime(zone string) (string, error) {
	path := "/etc/localtime"
	switch {
	case zone == "":
		return "", nil
	case zone == "local":
	case !filepath.IsLocal(zone):
		return "", fmt.Errorf("%q is not a time zone", zone)
	default:
		path = filepath.Join("/usr/share/zoneinfo", zone)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("time zone %q is not to be had: %w", zone, err)
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != "TZif" {
		return "", fmt.Errorf("%s is not the file of a time zone", path)
	}
	return path, nil
}
