package link

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// answers lets in only what may be an answer: datagrams of hosts that were sent
// to, and of those what is within the windows, and little else. The kernel drops
// the others before anything is queued, and counts them with what found no room.
type answers struct {
	latest atomic.Pointer[netip.Addr] // sent to; spares Send the lock

	mu      sync.Mutex // protects what follows
	hosts   []netip.Addr
	windows []Window
}

// expect lets a host answer.
func (s *socket) expect(host netip.Addr) error {
	a := s.answers
	if latest := a.latest.Load(); latest != nil && *latest == host {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	known := door(host)
	if !slices.Contains(a.hosts, known) {
		hosts := append(slices.Clone(a.hosts), known)
		hosts = hosts[max(0, len(hosts)-MaxAnswering):] // the oldest is forgotten
		if err := s.filter(hosts, a.windows); err != nil {
			return fmt.Errorf("link: expect an answer from %v: %w", host, err)
		}
		a.hosts = hosts
	}
	stored := host // the argument stays off the heap
	a.latest.Store(&stored)
	return nil
}

// Confine keeps out what is outside a window from now on, the newest one of each
// SPI; of more than MaxWindows the oldest is forgotten. One in sampled of what is
// beyond a window is let in all the same: if the peer did get so far ahead, one
// of them says so. It does nothing at a socket that does not only hear answers.
func (s *socket) Confine(w Window) error {
	a := s.answers
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(a.windows), func(old Window) bool { return old.SPI == w.SPI })
	all = append(all, w)
	all = all[max(0, len(all)-MaxWindows):]
	if err := s.filter(a.hosts, all); err != nil {
		return fmt.Errorf("link: keep out what is outside a window: %w", err)
	}
	a.windows = all
	return nil
}

func (s *socket) filter(hosts []netip.Addr, windows []Window) error {
	program := answersProgram(hosts, windows)
	return unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// What the program of one socket says, and where it finds the datagram: behind
// the UDP header. random is a word that is another each time.
const (
	refuse    = 0
	letIn     = 0xffffffff
	udpHeader = 8
	random    = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM
)

func answersProgram(hosts []netip.Addr, windows []Window) []unix.SockFilter {
	hosts = slices.SortedFunc(slices.Values(hosts), netip.Addr.Compare)
	v4, v6 := byFamily(hosts)
	from4 := append(compareSources(v4, []uint32{source4}), verdict(refuse))
	from6 := append(compareSources(v6, []uint32{source6, source6 + 4}), verdict(refuse))
	from4 = append(from4, jump(uint32(len(from6))))
	sample := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: random},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: sampled},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jt: 1},
		verdict(refuse),
	}
	program := append(familyProgram(from4, from6), windowProgram(windows, udpHeader, refuse, sample)...)
	return append(program, verdict(letIn))
}
