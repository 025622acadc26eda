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
// to, and of those none that is known to be stale. The kernel drops the others
// before anything is queued, and counts them with what found no room.
type answers struct {
	latest atomic.Pointer[netip.Addr] // sent to; spares Send the lock

	mu    sync.Mutex // protects what follows
	hosts []netip.Addr
	stale []Stale
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
		if err := s.filter(hosts, a.stale); err != nil {
			return fmt.Errorf("link: expect an answer from %v: %w", host, err)
		}
		a.hosts = hosts
	}
	stored := host // the argument stays off the heap
	a.latest.Store(&stored)
	return nil
}

// Refuse keeps stale datagrams out from now on, the newest word about each SPI;
// of more than MaxStale the oldest is forgotten. It does nothing at a socket
// that does not only hear answers.
func (s *socket) Refuse(stale Stale) error {
	a := s.answers
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(a.stale), func(old Stale) bool { return old.SPI == stale.SPI })
	all = append(all, stale)
	all = all[max(0, len(all)-MaxStale):]
	if err := s.filter(a.hosts, all); err != nil {
		return fmt.Errorf("link: refuse what is stale: %w", err)
	}
	a.stale = all
	return nil
}

func (s *socket) filter(hosts []netip.Addr, stale []Stale) error {
	program := answersProgram(hosts, stale)
	return unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// What the program of one socket says, and where it finds the datagram: behind
// the UDP header.
const (
	refuse    = 0
	letIn     = 0xffffffff
	udpHeader = 8
)

func answersProgram(hosts []netip.Addr, stale []Stale) []unix.SockFilter {
	hosts = slices.SortedFunc(slices.Values(hosts), netip.Addr.Compare)
	v4, v6 := byFamily(hosts)
	no := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: refuse}
	from4 := append(compareSources(v4, []uint32{source4}), no)
	from6 := append(compareSources(v6, []uint32{source6, source6 + 4}), no)
	from4 = append(from4, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(from6))})
	program := append(familyProgram(from4, from6), staleProgram(stale, udpHeader, refuse)...)
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: letIn})
}
