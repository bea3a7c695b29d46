package shim

import (
	"context"
	"errors"
	"testing"

	"github.com/criruntime/criruntime/oci/shim/api"
)

func TestExitFeed(t *testing.T) {
	f := newExitFeed()
	var past []*api.Exit
	publish := func(id string) {
		e := &api.Exit{Id: id}
		f.publish(e, func() { past = append(past, e) })
	}
	publish("1")
	first := f.listen(func() []*api.Exit { return past })
	publish("2")
	second := f.listen(func() []*api.Exit { return past })
	publish("3")
	for _, q := range []*exitQueue{first, second} {
		var got string
		enough := errors.New("enough")
		err := q.send(context.Background(), func(e *api.Exit) error {
			if got += e.Id; len(got) == 3 {
				return enough
			}
			return nil
		})
		if got != "123" || err != enough {
			t.Errorf("got %s, %v", got, err)
		}
		q.close()
	}
	if len(f.listeners) != 0 {
		t.Error("a listener is left")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.send(ctx, func(*api.Exit) error { return nil }); err != nil {
		t.Error(err)
	}
}
