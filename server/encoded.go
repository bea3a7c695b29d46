package server

import (
	"runtime"
	"sync"
	"weak"

	"google.golang.org/protobuf/proto"
)

// encoded keeps the items of a list in the form that they have on the wire. A
// kubelet lists all pods and all containers every second, and hardly one of them
// differs from the second before; to encode them, labels and annotations above all,
// is what such an answer costs. An item is forgotten with the Config that it is made
// from, which its pod or container has all its life.
//
// The zero value is ready, and safe for concurrent use.
type encoded[Config any, Item proto.Message] struct {
	forms sync.Map // weak.Pointer[Config] -> form[Item]
}

// form is an item for as long as its key is the same.
type form[Item proto.Message] struct {
	key  any
	item Item
}

// item is what build makes, which depends on nothing but config, which nobody
// changes, and key, which is comparable. It is for sending alone: its fields are
// behind what protobuf calls unknown fields, which go out as they are.
func (e *encoded[Config, Item]) item(config *Config, key any, build func() Item) Item {
	at := weak.Make(config)
	if f, ok := e.forms.Load(at); ok && f.(form[Item]).key == key {
		return f.(form[Item]).item
	}
	item := onWire(build())
	if _, known := e.forms.Swap(at, form[Item]{key, item}); !known {
		runtime.AddCleanup(config, func(at weak.Pointer[Config]) { e.forms.Delete(at) }, at)
	}
	return item
}

// onWire is a message in the form that it has on the wire, for sending alone.
func onWire[M proto.Message](full M) M {
	wire, err := proto.Marshal(full)
	if err != nil {
		return full // it fails again where it is sent
	}
	bare := full.ProtoReflect().New()
	bare.SetUnknown(wire)
	return bare.Interface().(M)
}
