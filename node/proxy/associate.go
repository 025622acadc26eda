package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// association is one program's UDP relay (RFC 1928, 7). It lives as long as
// the TCP connection that asked for it.
type association struct {
	server *Server
	local  *net.UDPConn // where the program sends
	from   netip.Addr   // the program's address
	passed atomic.Uint64

	mu      sync.Mutex        // protects the fields below
	program netip.AddrPort    // where it sends from, once known
	onward  [2]net.PacketConn // by family, opened when needed
	closed  bool

	names map[string]remembered // owned by the reader
}

type remembered struct {
	addr  netip.Addr
	until time.Time
}

// associate opens a relay and keeps it until the program hangs up.
func (s *Server) associate(c *conn, want destination) {
	at, program := addrPortOf(c.LocalAddr()), addrPortOf(c.RemoteAddr())
	local, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0)))
	if err != nil {
		s.config.Log.Warn("proxy: no UDP port", "error", err)
		reply(c, socksFailed, nil)
		return
	}
	a := &association{server: s, local: local, from: program.Addr(), names: make(map[string]remembered)}
	if want.port != 0 {
		a.program = netip.AddrPortFrom(a.from, want.port)
	}
	defer a.close()
	if !reply(c, socksDone, local.LocalAddr()) {
		return
	}
	c.SetDeadline(time.Time{})
	s.group.Go(a.fromProgram)
	hungUp := make(chan struct{})
	s.group.Go(func() {
		defer close(hungUp)
		_, _ = io.Copy(io.Discard, c) // whatever ends it, it has ended
	})
	a.watch(hungUp)
	c.Close()
	<-hungUp
}

// watch ends with the program's connection, or after long silence.
func (a *association) watch(hungUp <-chan struct{}) {
	ticker := time.NewTicker(AssociationIdle)
	defer ticker.Stop()
	for last := uint64(0); ; {
		select {
		case <-hungUp:
			return
		case <-ticker.C:
			n := a.passed.Load()
			if n == last {
				return
			}
			last = n
		}
	}
}

func (a *association) close() {
	a.local.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, socket := range a.onward {
		if socket != nil {
			socket.Close()
		}
	}
}

// fromProgram sends on what the program sends.
func (a *association) fromProgram() {
	b := make([]byte, maxDatagram)
	for {
		n, from, err := a.local.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !a.accepts(from) {
			continue
		}
		to, payload, err := readDatagram(b[:n])
		if err != nil {
			continue // fragments and garbage: RFC 1928 wants them dropped
		}
		if at, ok := a.resolve(to); ok {
			a.send(at, payload)
		}
	}
}

// accepts takes datagrams of the program alone: of its address, and of the
// port that it named or first used.
func (a *association) accepts(from netip.AddrPort) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if from.Addr() != a.from {
		return false
	}
	if !a.program.IsValid() {
		a.program = from
	}
	return from == a.program
}

// readDatagram takes the header off.
func readDatagram(b []byte) (to destination, payload []byte, err error) {
	if len(b) < 4 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		return to, nil, errSOCKS
	}
	r := bytes.NewReader(b[3:])
	if to, err = readAddress(r); err != nil || to.port == 0 {
		return to, nil, errors.Join(errSOCKS, err)
	}
	return to, b[len(b)-r.Len():], nil
}

// resolve finds the address of a destination; names are remembered for a while.
func (a *association) resolve(to destination) (at netip.AddrPort, ok bool) {
	now := time.Now()
	if known, ok := a.names[to.host]; ok && now.Before(known.until) {
		return netip.AddrPortFrom(known.addr, to.port), true
	}
	ctx, cancel := context.WithTimeout(a.server.ctx, DialTimeout)
	defer cancel()
	all, err := a.server.addresses(ctx, to.host)
	if err != nil {
		a.server.config.Log.Info("proxy: datagram dropped", "to", to, "error", err)
		return at, false
	}
	if _, err := netip.ParseAddr(to.host); err != nil { // a name: it cost a question
		if len(a.names) >= MaxNames {
			clear(a.names)
		}
		a.names[to.host] = remembered{all[0], now.Add(NameLife)}
	}
	return netip.AddrPortFrom(all[0], to.port), true
}

func (a *association) send(to netip.AddrPort, payload []byte) {
	socket, err := a.socket(to.Addr().Is6())
	if err == nil {
		_, err = socket.WriteTo(payload, net.UDPAddrFromAddrPort(to))
	}
	if err != nil {
		a.server.config.Log.Debug("proxy: datagram not sent", "to", to, "error", err)
		return
	}
	a.passed.Add(1)
}

// socket is the one of a family; its answers go back to the program.
func (a *association) socket(v6 bool) (net.PacketConn, error) {
	family := 0
	if v6 {
		family = 1
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, net.ErrClosed
	}
	if a.onward[family] == nil {
		socket, err := a.server.config.Network.OpenUDP(v6)
		if err != nil {
			return nil, err
		}
		a.onward[family] = socket
		a.server.group.Go(func() { a.toProgram(socket) })
	}
	return a.onward[family], nil
}

// toProgram passes answers back, each behind its source.
func (a *association) toProgram(socket net.PacketConn) {
	b, out := make([]byte, maxDatagram), make([]byte, 0, maxDatagram)
	for {
		n, from, err := socket.ReadFrom(b)
		if err != nil {
			return
		}
		out = append(appendAddress(append(out[:0], 0, 0, 0), addrPortOf(from)), b[:n]...)
		a.mu.Lock()
		program := a.program
		a.mu.Unlock()
		if _, err := a.local.WriteToUDPAddrPort(out, program); err == nil {
			a.passed.Add(1)
		}
	}
}
