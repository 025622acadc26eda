package mesh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// sockets is gossip's UDP and TCP port. The library has a Transport of its own for them, which
// makes 64 KiB for each datagram, of which it uses a hundred bytes or two: at rest that is half
// of all that a node makes on its heap, whose room follows from it.
type sockets struct {
	log       *slog.Logger
	datagrams *net.UDPConn
	listener  *net.TCPListener
	packets   chan *memberlist.Packet
	streams   chan net.Conn
	done      chan struct{} // closed by Shutdown
	closing   sync.Once
	opening   context.Context // of every stream that this node opens
	hangUp    context.CancelFunc
	running   sync.WaitGroup
}

// listen opens both ports, which have one number. Of those that the kernel chooses for TCP
// one may be taken for UDP.
func listen(at netip.AddrPort, log *slog.Logger) (s *sockets, err error) {
	for range bindTries {
		if s, err = bind(at, log); err == nil || at.Port() != 0 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	s.running.Go(s.readDatagrams)
	s.running.Go(s.accept)
	return s, nil
}

func bind(at netip.AddrPort, log *slog.Logger) (*sockets, error) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	port := uint16(listener.Addr().(*net.TCPAddr).Port)
	datagrams, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), port)))
	if err != nil {
		listener.Close()
		return nil, err
	}
	_ = datagrams.SetReadBuffer(receiveBuffer) // what the kernel gives is enough for a small mesh
	s := &sockets{
		log: log, datagrams: datagrams, listener: listener,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{}),
	}
	s.opening, s.hangUp = context.WithCancel(context.Background())
	return s, nil
}

// readDatagrams passes on a copy of each, of its size.
func (s *sockets) readDatagrams() {
	buffer := make([]byte, datagramMost)
	for {
		n, from, err := s.datagrams.ReadFrom(buffer)
		switch {
		case err != nil:
			if s.pause(err) {
				return
			}
		case n > 0:
			select {
			case s.packets <- &memberlist.Packet{Buf: bytes.Clone(buffer[:n]), From: from, Timestamp: time.Now()}:
			case <-s.done:
				return
			}
		}
	}
}

func (s *sockets) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if s.pause(err) {
				return
			}
			continue
		}
		select {
		case s.streams <- conn:
		case <-s.done:
			conn.Close()
			return
		}
	}
}

// pause waits after an error, as of a process without a descriptor left, and reports
// whether it was the end.
func (s *sockets) pause(err error) (over bool) {
	select {
	case <-s.done:
		return true
	case <-time.After(errorPause):
		s.log.Debug("gossip's port", "error", err)
		return false
	}
}

// FinalAdvertiseAddr is memberlist.Transport, as all that follows: what others are told,
// where the configuration does not say it.
func (s *sockets) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	own := s.listener.Addr().(*net.TCPAddr)
	if ip == "" {
		return own.IP, own.Port, nil
	}
	given, err := netip.ParseAddr(ip)
	if err != nil {
		return nil, 0, fmt.Errorf("mesh: address to tell: %w", err)
	}
	return given.AsSlice(), port, nil
}

// WriteTo sends a datagram.
func (s *sockets) WriteTo(b []byte, to string) (time.Time, error) {
	at, err := netip.ParseAddrPort(to)
	if err == nil {
		_, err = s.datagrams.WriteToUDPAddrPort(b, at)
	}
	return time.Now(), err
}

// WriteToAddress is WriteTo: names are nothing to us.
func (s *sockets) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return s.WriteTo(b, to.Addr)
}

// DialTimeout opens a stream, which hangUp ends.
func (s *sockets) DialTimeout(to string, within time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: within}
	conn, err := dialer.DialContext(s.opening, "tcp", to)
	if err != nil {
		return nil, err
	}
	return opened{conn, context.AfterFunc(s.opening, func() { conn.Close() })}, nil
}

// opened is a stream that this node opened.
type opened struct {
	net.Conn
	forget func() bool // that hangUp is to end it
}

// Close ends the stream.
func (o opened) Close() error {
	o.forget()
	return o.Conn.Close()
}

// DialAddressTimeout is DialTimeout.
func (s *sockets) DialAddressTimeout(to memberlist.Address, within time.Duration) (net.Conn, error) {
	return s.DialTimeout(to.Addr, within)
}

// PacketCh and StreamCh are what comes.
func (s *sockets) PacketCh() <-chan *memberlist.Packet { return s.packets }

// StreamCh likewise.
func (s *sockets) StreamCh() <-chan net.Conn { return s.streams }

// Shutdown closes both ports and waits for who reads them.
func (s *sockets) Shutdown() error {
	s.closing.Do(func() {
		close(s.done)
		s.hangUp()
		s.listener.Close()
		s.datagrams.Close() // neither can be open afterwards
	})
	s.running.Wait()
	return nil
}
