package gateway

import (
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/mesh/link/framed"
)

// Where UDP is blocked a client brings its datagrams on a stream, opened and
// secured by the port. To the gateway it is one more outer socket: its client
// has rows like any other, and no row is shared, for a stream's trains have no
// local address. Opening one takes a token of the prefix's bucket, as a row does.

// streams is the streams there are; all of it is protected by Gateway.mu.
type streams struct {
	all      map[*framed.Socket]netip.Prefix
	byPrefix map[netip.Prefix]int

	opened, refused uint64
}

// ServeStream takes over a client's stream, if it may, and returns when it has
// ended. A stranger's ends soon: no node answers it.
func (g *Gateway) ServeStream(conn net.Conn, remote netip.AddrPort) {
	s := framed.New(conn, remote)
	defer s.Close()
	if !g.admitStream(s, remote.Addr()) {
		return
	}
	defer g.forgetStream(s)
	if err := g.config.Attach(s); err != nil {
		return
	}
	<-s.Done()
}

// admitStream reports whether one more stream of the address is allowed.
func (g *Gateway) admitStream(s *framed.Socket, from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := &g.streams
	prefix, ok := sourcePrefix(from)
	if !ok || g.closed || g.config.Attach == nil || len(st.all) >= g.config.MaxStreams ||
		st.byPrefix[prefix] >= MaxStreamsPerPrefix || !g.make.allow(prefix, g.config.Clock()) {
		st.refused++
		return false
	}
	st.opened++
	st.all[s] = prefix
	st.byPrefix[prefix]++
	return true
}

func (g *Gateway) forgetStream(s *framed.Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := &g.streams
	prefix := st.all[s]
	delete(st.all, s)
	if st.byPrefix[prefix]--; st.byPrefix[prefix] == 0 {
		delete(st.byPrefix, prefix)
	}
}

// idleStreams are those that no node has answered in time, or that are silent
// for longer than a client is.
func (g *Gateway) idleStreams() (idle []*framed.Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.streams.all {
		if silent := s.Silent(); silent > IdleConfirmed || !s.Spoke() && s.Age() > IdleUnconfirmed {
			idle = append(idle, s)
		}
	}
	return idle
}

// over reports whether a row's client is known to be gone: its stream has ended.
func (r *row) over() bool {
	s, ok := r.outer.(*framed.Socket)
	if !ok {
		return false
	}
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}
