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
//
// Whoever reaches the port can open one, so only a node's answer makes it a client's
// and only further answers keep it. Where there are too many, one that no node has
// answered makes room for the newest: of the prefix that has too many, or has most of
// such.

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
	evicted, ok := g.enterStream(s, from)
	if evicted != nil {
		evicted.Close()
	}
	return ok
}

func (g *Gateway) enterStream(s *framed.Socket, from netip.Addr) (evicted *framed.Socket, admitted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := &g.streams
	prefix, ok := sourcePrefix(from)
	if !ok || g.closed || g.config.Attach == nil || !g.make.allow(prefix, g.config.Clock()) {
		st.refused++
		return nil, false
	}
	if evicted, ok = st.makeRoom(prefix, g.config.MaxStreams); !ok {
		st.refused++
		return nil, false
	}
	st.opened++
	st.all[s] = prefix
	st.byPrefix[prefix]++
	return evicted, true
}

// makeRoom takes out the stream that has to go for one more of a prefix, if any has
// to; false if none may.
func (st *streams) makeRoom(prefix netip.Prefix, most int) (evicted *framed.Socket, ok bool) {
	switch {
	case st.byPrefix[prefix] >= MaxStreamsPerPrefix:
	case len(st.all) >= most:
		if prefix, ok = st.mostUnanswered(); !ok {
			return nil, false
		}
	default:
		return nil, true
	}
	if evicted = st.oldestUnanswered(prefix); evicted != nil {
		st.forget(evicted)
		st.refused++
	}
	return evicted, evicted != nil
}

// mostUnanswered is the prefix that has most streams which no node has answered.
func (st *streams) mostUnanswered() (prefix netip.Prefix, ok bool) {
	count := make(map[netip.Prefix]int)
	for s, p := range st.all {
		if _, answered := s.Spoke(); !answered {
			if count[p]++; !ok || count[p] > count[prefix] {
				prefix, ok = p, true
			}
		}
	}
	return prefix, ok
}

func (st *streams) oldestUnanswered(prefix netip.Prefix) (oldest *framed.Socket) {
	for s, p := range st.all {
		if _, answered := s.Spoke(); p == prefix && !answered && (oldest == nil || s.Age() > oldest.Age()) {
			oldest = s
		}
	}
	return oldest
}

// forget takes a stream out; one that is out already stays so.
func (st *streams) forget(s *framed.Socket) {
	prefix, known := st.all[s]
	if !known {
		return
	}
	delete(st.all, s)
	if st.byPrefix[prefix]--; st.byPrefix[prefix] == 0 {
		delete(st.byPrefix, prefix)
	}
}

func (g *Gateway) forgetStream(s *framed.Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams.forget(s)
}

// idleStreams are those that no node has answered in time, for the first time or again.
func (g *Gateway) idleStreams() (idle []*framed.Socket) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.streams.all {
		if ago, answered := s.Spoke(); answered && ago > IdleConfirmed || !answered && s.Age() > IdleUnconfirmed {
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
