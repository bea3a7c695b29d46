package server

import "google.golang.org/protobuf/proto"

// portion is the size in bytes at which a streamed list goes on in the next
// message: far below the limit of a message, and few messages on most nodes.
const portion = 1 << 20

// inPortions sends a list in messages of about one portion each. An empty list
// sends nothing.
func inPortions[T proto.Message](items []T, send func([]T) error) error {
	start, size := 0, 0
	for i, item := range items {
		n := proto.Size(item)
		if i > start && size+n > portion {
			if err := send(items[start:i]); err != nil {
				return err
			}
			start, size = i, 0
		}
		size += n
	}
	if start == len(items) {
		return nil
	}
	return send(items[start:])
}
