package admission

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
	fullest fullest // of its sources, by their share of the room
	room    int
	index   int // in the pool's heap
}

// source is the connections of one source in one class.
type source struct {
	key     Source
	door    *entrance
	parts   []*part // whose turn is next comes first
	room    int     // silent, queued, unproven
	waiting int
	held    list.List // its handshakes, the oldest first
	turn    *list.Element
	index   int // in fullest
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

// crowdest is a heap of entrances: who has most of the room is first.
type crowdest []*entrance

func (c crowdest) Len() int           { return len(c) }
func (c crowdest) Less(i, j int) bool { return c[i].room > c[j].room }
func (c crowdest) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].index, c[j].index = i, j
}

// Push implements heap.Interface.
func (c *crowdest) Push(x any) {
	e := x.(*entrance)
	e.index = len(*c)
	*c = append(*c, e)
}

// Pop implements heap.Interface.
func (c *crowdest) Pop() any {
	old := *c
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*c = old[:len(old)-1]
	return e
}

// fullest is a heap of sources: who has most of the room is first.
type fullest []*source

func (f fullest) Len() int           { return len(f) }
func (f fullest) Less(i, j int) bool { return f[i].room > f[j].room }
func (f fullest) Swap(i, j int) {
	f[i], f[j] = f[j], f[i]
	f[i].index, f[j].index = i, j
}

// Push implements heap.Interface.
func (f *fullest) Push(x any) {
	s := x.(*source)
	s.index = len(*f)
	*f = append(*f, s)
}

// Pop implements heap.Interface.
func (f *fullest) Pop() any {
	old := *f
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return s
}
