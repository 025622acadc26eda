package slots

import (
	"container/list"
	"net/netip"
)

// Source is who answers for a connection: an IPv4 address, or the /48 that an
// IPv6 host is likely to have been given at most, with the /56 as its part. A
// customer who has a /56 shares slots with others of that /48, by turns. Where a node
// passes a connection on it is that node who names the address, so the same address
// through another node, or of who came by itself, is another source.
type Source struct {
	Whole, Part netip.Prefix
	Via         string // the node; empty: it came by itself
}

// SourceOf is the source of an address. One that is none shares the zero source.
func SourceOf(a netip.Addr) Source {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		p := netip.PrefixFrom(a, 32)
		return Source{Whole: p, Part: p}
	}
	whole, err := a.Prefix(48)
	if err != nil {
		return Source{}
	}
	part, _ := a.Prefix(56) // as good as the other
	return Source{Whole: whole, Part: part}
}

// Through is the source as a node names it.
func (s Source) Through(via string) Source {
	s.Via = via
	return s
}

// entrance is where sources come in: this host's own port, or a node that passes
// connections on. One that names a thousand addresses has no more turns for it, and
// when the room is full its own have to go.
type entrance struct {
	name    string
	sources int       // that it has
	ring    list.List // of those that have somebody waiting; the next one first
	turn    *list.Element
	fullest fullest[*source]
	share   // of its sources together; its place is in the pool
}

// source is the connections of one source in one class.
type source struct {
	key     Source
	door    *entrance
	parts   []*part // whose turn is next comes first
	share           // silent, queued, unproven; its place is in its entrance
	waiting int
	held    list.List // its handshakes, the oldest first
	turn    *list.Element
}

// part is one part of a source.
type part struct {
	key   netip.Prefix
	room  list.List // the oldest first
	queue list.List // the newest first
	users int       // tickets that refer to it
}

func (s *source) partOf(key netip.Prefix) *part {
	for _, p := range s.parts {
		if p.key == key {
			p.users++
			return p
		}
	}
	p := &part{key: key, users: 1}
	s.parts = append(s.parts, p)
	return p
}

// idle gives one ticket's use back, and reports whether it was the last.
func (p *part) idle() bool {
	p.users--
	return p.users == 0
}

func (s *source) drop(gone *part) {
	for i, p := range s.parts {
		if p == gone {
			s.parts = append(s.parts[:i], s.parts[i+1:]...)
			return
		}
	}
}

func (s *source) idle() bool { return len(s.parts) == 0 }

// newest is the latest to wait, of the part whose turn it is.
func (s *source) newest() *Ticket {
	for _, p := range s.parts {
		if e := p.queue.Front(); e != nil {
			return e.Value.(*Ticket)
		}
	}
	return nil
}

// rotate lets the other parts go first from now on.
func (s *source) rotate(served *part) {
	s.drop(served)
	s.parts = append(s.parts, served)
}

// oldest is the first to go: the oldest connection of the part that has most.
func (s *source) oldest() *Ticket {
	var most *part
	for _, p := range s.parts {
		if most == nil || p.room.Len() > most.room.Len() {
			most = p
		}
	}
	if most == nil || most.room.Len() == 0 {
		return nil
	}
	return most.room.Front().Value.(*Ticket)
}

// oldest is the first to go: that of the source that has most.
func (e *entrance) oldest() *Ticket {
	if len(e.fullest) == 0 {
		return nil
	}
	return e.fullest[0].oldest()
}

// share is how much of the room somebody has, and where he stands in a heap of such.
type share struct{ room, index int }

func (s *share) has() int      { return s.room }
func (s *share) put(index int) { s.index = index }

// sharing is what a heap of shares needs of its members.
type sharing interface {
	has() int
	put(index int)
}

// fullest is a heap: who has most of the room is first.
type fullest[S sharing] []S

func (f fullest[S]) Len() int           { return len(f) }
func (f fullest[S]) Less(i, j int) bool { return f[i].has() > f[j].has() }
func (f fullest[S]) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].put(i)
	f[j].put(j)
}

// Push implements heap.Interface.
func (f *fullest[S]) Push(x any) {
	s := x.(S)
	s.put(len(*f))
	*f = append(*f, s)
}

// Pop implements heap.Interface.
func (f *fullest[S]) Pop() any {
	old := *f
	last := old[len(old)-1]
	clear(old[len(old)-1:])
	*f = old[:len(old)-1]
	return last
}
