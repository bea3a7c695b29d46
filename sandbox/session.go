package sandbox

import "io"

// Session is a client's side of an exec or attach: nil streams are absent.
// With TTY, Stdout carries both outputs and Stderr is nil.
type Session struct {
	Stdin          io.Reader
	Stdout, Stderr io.WriteCloser
	TTY            bool
	// Resize delivers terminal sizes until it is closed; it may be nil.
	Resize <-chan Size
}

// Size of a terminal in characters.
type Size struct {
	Width, Height uint16
}
