package exits

import (
	"context"
	"errors"
	"testing"

	"github.com/criruntime/criruntime/oci/shim/api"
)

func TestExitFeed(t *testing.T) {
	f := NewFeed()
	var past []*api.Exit
	publish := func(id string) {
		e := &api.Exit{Id: id}
		f.Publish(e, func() { past = append(past, e) })
	}
	publish("1")
	first := f.Listen(func() []*api.Exit { return past })
	publish("2")
	second := f.Listen(func() []*api.Exit { return past })
	publish("3")
	for _, q := range []*Queue{first, second} {
		var got string
		enough := errors.New("enough")
		err := q.Send(context.Background(), func(e *api.Exit) error {
			if got += e.Id; len(got) == 3 {
				return enough
			}
			return nil
		})
		if got != "123" || err != enough {
			t.Errorf("got %s, %v", got, err)
		}
		q.Close()
	}
	if len(f.listeners) != 0 {
		t.Error("a listener is left")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.Send(ctx, func(*api.Exit) error { return nil }); err != nil {
		t.Error(err)
	}
}
