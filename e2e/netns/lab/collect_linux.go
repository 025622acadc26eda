package lab

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Datagram is one UDP datagram that passed an interface.
type Datagram struct {
	From, To netip.AddrPort
	Payload  []byte
}

// Collection keeps UDP datagrams that pass an interface towards a port.
type Collection struct {
	fd     int
	port   uint16
	limit  int
	ending atomic.Bool
	done   chan struct{}

	mu  sync.Mutex // protects all
	all []Datagram
}

// maxPlain is the largest IP packet that is kept: a larger one is a train that
// no wire has carried yet.
const maxPlain = 1500

// Collect keeps the first limit datagrams that leave or enter the device for a
// UDP port.
func (s *Space) Collect(device string, port uint16, limit int) *Collection {
	s.world.Helper()
	c := &Collection{port: port, limit: limit, done: make(chan struct{})}
	if err := s.Do(func() (err error) { c.fd, err = packetSocket(device, unix.SOCK_DGRAM); return err }); err != nil {
		s.world.Fatalf("lab: collect at %s of %s: %v", device, s.Name, err)
	}
	go c.run()
	s.world.Cleanup(c.end)
	return c
}

func (c *Collection) run() {
	defer close(c.done)
	defer unix.Close(c.fd) // who has enough costs the hosts nothing
	packet := make([]byte, frameSize)
	for !c.ending.Load() && len(c.Datagrams()) < c.limit {
		n, _, err := unix.Recvfrom(c.fd, packet, 0)
		switch {
		case err == nil:
			c.keep(packet[:n])
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			return
		}
	}
}

func (c *Collection) keep(packet []byte) {
	proto, from, to, ok := parse(packet)
	if !ok || proto != unix.IPPROTO_UDP || to.Port() != c.port || len(packet) > maxPlain || !from.Addr().Is4() {
		return
	}
	header := int(packet[0]&15)*4 + 8
	length := int(binary.BigEndian.Uint16(packet[header-4:])) - 8
	if length < 0 || header+length > len(packet) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, Datagram{from, to, append([]byte(nil), packet[header:header+length]...)})
}

// Datagrams are those kept so far.
func (c *Collection) Datagrams() []Datagram {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[:len(c.all):len(c.all)]
}

func (c *Collection) end() {
	c.ending.Store(true)
	<-c.done
}
