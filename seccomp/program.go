package seccomp

import (
	"slices"

	"golang.org/x/sys/unix"
)

// program is being written from its end to its start, since all jumps of BPF go
// forwards: their targets are there before them, and so are the distances.
type program struct {
	reversed []unix.SockFilter
	returns  map[uint32]label // the nearest instruction that returns the value
}

// label is a place to jump to: how many instructions there are from it to the
// program's end.
type label int

// maxJump is how far a conditional jump reaches, less the instruction that
// branch may have to put between.
const maxJump = 255 - 1

func (p *program) emit(i unix.SockFilter) label {
	p.reversed = append(p.reversed, i)
	return label(len(p.reversed))
}

// distance is what a jump that is emitted next has to skip.
func (p *program) distance(to label) int {
	return len(p.reversed) - int(to)
}

// ret returns a place from which the program returns the value.
func (p *program) ret(value uint32) label {
	if l, ok := p.returns[value]; ok && p.distance(l) <= maxJump {
		return l
	}
	p.returns[value] = p.emit(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value})
	return p.returns[value]
}

// branch compares what is loaded with the value and goes to yes or no.
func (p *program) branch(op uint16, value uint32, yes, no label) label {
	yes = p.near(yes)
	no = p.near(no)
	return p.emit(unix.SockFilter{
		Code: unix.BPF_JMP | op | unix.BPF_K,
		Jt:   uint8(p.distance(yes)),
		Jf:   uint8(p.distance(no)),
		K:    value,
	})
}

// near returns a place within reach that leads to l.
func (p *program) near(l label) label {
	if p.distance(l) <= maxJump {
		return l
	}
	return p.emit(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(p.distance(l))})
}

// load loads the word at an offset of the kernel's seccomp_data, for the
// instruction that was emitted last.
func (p *program) load(offset uint32) label {
	return p.emit(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset})
}

// loadMasked is load for a part of the word's bits.
func (p *program) loadMasked(offset, mask uint32) label {
	if mask != ^uint32(0) {
		p.emit(unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask})
	}
	return p.load(offset)
}

// forwards returns the program as it runs.
func (p *program) forwards() []unix.SockFilter {
	slices.Reverse(p.reversed)
	return p.reversed
}
