package sim

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// train is datagrams that have arrived.
type train struct {
	bytes []byte
	train link.Train
}

// socket is a process's UDP socket.
type socket struct {
	process *process
	local   netip.AddrPort
	key     string // of what it sends, see sending

	mu     sync.Mutex // protects what follows
	ready  *sync.Cond
	in     []train
	closed bool
}

// MaxQueue is how many trains wait at one socket; further ones are lost.
const MaxQueue = 4096

// listen opens a socket. The world hears of it at once: the caller is the driver, or a
// loop that nobody else can send to yet.
func (p *process) listen(local netip.AddrPort) *socket {
	s := &socket{process: p, local: local, key: "u" + local.String()}
	s.ready = sync.NewCond(&s.mu)
	p.world.leave("o"+s.key, func() { p.world.net.sockets[local] = s })
	return s
}

// LocalAddr implements link.Socket.
func (s *socket) LocalAddr() netip.AddrPort { return s.local }

// Lost implements link.Socket.
func (s *socket) Lost() uint64 { return 0 }

// Send implements link.Socket.
func (s *socket) Send(b []byte, segment int, path link.Path) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return link.ErrClosed
	}
	copied := append([]byte(nil), b...)
	s.process.leave(fmt.Sprintf("%s%s%d", s.key, path.Remote, len(b)), func() { s.fly(copied, segment, path) })
	return nil
}

// fly is the driver's: the train is lost, or arrives later.
func (s *socket) fly(b []byte, segment int, path link.Path) {
	net := s.process.world.net
	to := net.hostOf(path.Remote.Addr())
	if to == nil || !s.process.alive() || !net.open(s.process.host, to) || net.loses(s.process.host, to) {
		return
	}
	s.process.world.after(net.takes(s.process.host, to), func() {
		far := net.sockets[path.Remote]
		if far == nil || !net.open(s.process.host, to) || !far.process.alive() {
			return
		}
		far.put(train{b, link.Train{Path: link.Path{Local: path.Remote.Addr(), Remote: s.local}, Len: len(b), Segment: segment, TOS: path.TOS}})
	})
}

func (s *socket) put(t train) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.in) >= MaxQueue {
		return
	}
	s.in = append(s.in, t)
	s.ready.Signal()
}

// Receive implements link.Socket.
func (s *socket) Receive(b []byte) (link.Train, error) {
	for {
		s.process.gate()
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return link.Train{}, link.ErrClosed
		}
		if len(s.in) > 0 && s.process.runs() {
			t := s.in[0]
			s.in = s.in[1:]
			s.mu.Unlock()
			copy(b, t.bytes)
			return t.train, nil
		}
		if len(s.in) == 0 {
			s.ready.Wait()
		}
		s.mu.Unlock()
	}
}

// Close implements link.Socket.
func (s *socket) Close() error {
	s.mu.Lock()
	s.closed = true
	s.ready.Broadcast()
	s.mu.Unlock()
	world := s.process.world
	world.leave("c"+s.key, func() {
		if world.net.sockets[s.local] == s {
			delete(world.net.sockets, s.local)
		}
	})
	return nil
}

// receiver is a socket that somebody reads for its owner, as one of a link.Group.
type receiver struct {
	*socket
	done chan struct{}
}

// openFor is Open of a link.Group.
func (p *process) openFor(local netip.AddrPort, receive func([]byte, link.Train)) link.Sender {
	r := &receiver{p.listen(local), make(chan struct{})}
	go func() {
		defer close(r.done)
		b := make([]byte, link.MaxTrain)
		for {
			t, err := r.Receive(b)
			if err != nil {
				return
			}
			receive(b[:t.Len], t)
		}
	}()
	return r
}

// Close waits for who reads.
func (r *receiver) Close() error {
	err := r.socket.Close()
	<-r.done
	return err
}
