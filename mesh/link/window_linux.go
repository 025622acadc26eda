package link

import (
	"math"

	"golang.org/x/sys/unix"
)

// Window says which datagrams that begin with SPI are worth taking up: those
// whose next word is neither below From nor beyond To. What is below, a receiver
// has passed; what is beyond, it hardly waits for.
type Window struct{ SPI, From, To uint32 }

// Unbounded is a Window's To that nothing is beyond.
const Unbounded = math.MaxUint32

// windowProgram ends with the verdict below for what a receiver has passed, and
// runs beyond for what is beyond a window; for all else it goes on behind its
// end, as beyond may. A datagram begins at the place at. A train is not judged by
// its first datagram: the kernel may have put better ones behind it. What is
// shorter than the words that are compared would end the program.
func windowProgram(windows []Window, at, below uint32, beyond []unix.SockFilter) (p []unix.SockFilter) {
	if len(windows) == 0 {
		return nil
	}
	const per = 7 // instructions for one SPI
	// rest is how many come before beyond when so many windows are done.
	rest := func(done int) uint32 { return uint32((len(windows)-done)*per) + 1 }
	end := uint32(len(beyond))
	p = []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: at + singleMost, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: at + 8, Jt: 1},
		jump(1 + rest(0) + end),
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at},
	}
	for i, w := range windows {
		p = append(p,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: w.SPI, Jf: per - 1},
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at + 4},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: w.From, Jt: 1},
			verdict(below),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: w.To, Jf: 1},
			jump(1+rest(i+1)),
			jump(rest(i+1)+end))
	}
	p = append(p, jump(end)) // another SPI
	return append(p, beyond...)
}

// jump passes over so many instructions.
func jump(over uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: over}
}

// verdict ends a program.
func verdict(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}
