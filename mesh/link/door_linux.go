package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Door keeps strangers apart from known peers at one port. A stranger's
// datagrams go to a socket of their own, with a short queue and a budget, so a
// flood of them overflows there, in the kernel, and takes no room and little
// time from the others. Which is which the kernel decides by the source
// address, before anything is queued. Single datagrams of known peers that are
// outside a window go the strangers' way too.
type Door struct {
	first   *socket
	workers int
	known   []netip.Addr
	spare   []netip.Addr // room for those that are told next
	windows []Window
}

// ListenBehindDoor opens what Listen opens and, as the last, the strangers'
// socket. Until Know is called nobody is a stranger.
func ListenBehindDoor(c Config) ([]Socket, *Door, error) {
	workers := max(c.Count, 1)
	c.Count, c.Ahead = workers+1, true
	sockets, err := Listen(c)
	if err != nil {
		return nil, nil, err
	}
	d := &Door{first: sockets[0].(*socket), workers: workers}
	outside := sockets[workers].(*socket)
	outside.budget = newBudget(time.Now())
	if err = unix.SetsockoptInt(outside.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, StrangerBytes); err == nil {
		err = d.attach(nil, nil)
	}
	if err != nil {
		for _, s := range sockets {
			_ = s.Close()
		}
		return nil, nil, fmt.Errorf("link: set up the strangers' socket of %v: %w", c.Addr, err)
	}
	return sockets, d, nil
}

// Know says whose datagrams are not a stranger's from now on, if they are within
// the windows. With no peers, or more than MaxKnown, nobody is a stranger; of the
// windows MaxWindows are told. It belongs to one goroutine, which must not call
// it after the sockets are closed.
func (d *Door) Know(peers []netip.Addr, windows []Window) error {
	known := d.spare[:0] // it is asked ten times a second, and almost always nothing changed
	for _, a := range peers {
		known = append(known, door(a))
	}
	slices.SortFunc(known, netip.Addr.Compare)
	d.spare = known
	known = slices.Compact(known)
	if len(known) > MaxKnown {
		known = nil
	}
	windows = windows[:min(len(windows), MaxWindows)]
	if slices.Equal(known, d.known) && slices.Equal(windows, d.windows) {
		return nil
	}
	if err := d.attach(known, windows); err != nil {
		return fmt.Errorf("link: tell strangers apart: %w", err)
	}
	d.known, d.windows = slices.Clone(known), windows
	return nil
}

// door is what stands for a peer: an IPv4 address, or an IPv6 /64, all of
// which is one host's.
func door(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	b := a.As16()
	clear(b[8:])
	return netip.AddrFrom16(b)
}

func (d *Door) attach(known []netip.Addr, windows []Window) error {
	d.first.using.RLock()
	defer d.first.using.RUnlock()
	if d.first.closed.Load() {
		return ErrClosed
	}
	stranger := uint32(d.workers)
	program := append(windowProgram(windows, 0, stranger, []unix.SockFilter{verdict(stranger)}), doorProgram(known, d.workers)...)
	return unix.SetsockoptSockFprog(d.first.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// Places in the IP header and behind it, for a classic BPF load.
const (
	fromHeader = 0xfff00000 // SKF_NET_OFF
	source4    = fromHeader + 12
	ports4     = fromHeader + 20 // of a header without options: it only spreads
	source6    = fromHeader + 8
	ports6     = fromHeader + 40
)

// doorProgram is classic BPF, for it needs no privilege: it gives the index of
// the socket for one datagram. The workers' share is by source address and
// port, so that a peer's path stays with one worker.
func doorProgram(known []netip.Addr, workers int) []unix.SockFilter {
	v4, v6 := byFamily(known)
	return familyProgram(doorFamily(v4, []uint32{source4}, ports4, workers, len(known) == 0),
		doorFamily(v6, []uint32{source6, source6 + 4}, ports6, workers, len(known) == 0))
}

// byFamily parts sorted addresses.
func byFamily(sorted []netip.Addr) (v4, v6 []netip.Addr) {
	split, _ := slices.BinarySearchFunc(sorted, true, func(a netip.Addr, _ bool) int {
		if a.Is4() {
			return -1
		}
		return 1
	})
	return sorted[:split], sorted[split:]
}

// familyProgram runs the program of a datagram's family.
func familyProgram(v4, v6 []unix.SockFilter) []unix.SockFilter {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: fromHeader},
		{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 6, Jf: 1},
		jump(uint32(len(v4))),
	}
	return append(append(program, v4...), v6...)
}

// compareSources compares the words of a source with those of each peer, one
// after the other. The first that is equal ends it beyond the instruction behind.
func compareSources(peers []netip.Addr, words []uint32) (p []unix.SockFilter) {
	per := 2*len(words) + 1 // instructions for one peer
	for i, a := range peers {
		raw := a.AsSlice()
		for j, at := range words {
			p = append(p,
				unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at},
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
					K: binary.BigEndian.Uint32(raw[4*j:]), Jf: uint8(2*(len(words)-j) - 1)})
		}
		p = append(p, jump(uint32((len(peers)-i-1)*per+1)))
	}
	return p
}

// doorFamily gives strangers their socket, and the known peers of a family, or
// all, those of the workers.
func doorFamily(known []netip.Addr, words []uint32, ports uint32, workers int, all bool) []unix.SockFilter {
	p := compareSources(known, words)
	if !all {
		p = append(p, verdict(uint32(workers)))
	}
	return append(p,
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: words[len(words)-1]},
		unix.SockFilter{Code: unix.BPF_MISC | unix.BPF_TAX},
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: ports},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_XOR | unix.BPF_X},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_MUL | unix.BPF_K, K: 0x9e3779b1},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, K: 16},
		unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(workers)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_A})
}

// budget is the trains a strangers' socket still takes up. It belongs to the
// goroutine in Receive, but for closed.
type budget struct {
	tokens float64
	filled time.Time
	closed chan struct{}
}

func newBudget(now time.Time) *budget {
	return &budget{tokens: StrangerBurst, filled: now, closed: make(chan struct{})}
}

// spend takes one train, or says how long to wait for it.
func (b *budget) spend(now time.Time) (wait time.Duration) {
	b.tokens = min(b.tokens+now.Sub(b.filled).Seconds()*StrangerRate, StrangerBurst)
	b.filled = now
	if b.tokens < 1 {
		return time.Duration((1 - b.tokens) / StrangerRate * float64(time.Second))
	}
	b.tokens--
	return 0
}

// await keeps to the budget. It waits for several trains at once, as waking up
// costs more than a train.
func (b *budget) await() {
	for wait := b.spend(time.Now()); wait > 0; wait = b.spend(time.Now()) {
		timer := time.NewTimer(max(wait, strangerNap))
		select {
		case <-timer.C:
		case <-b.closed:
			timer.Stop()
			return
		}
	}
}
