package registry

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// streamWriter gathers objects into pieces. The memory of a piece is taken again for the next.
type streamWriter struct {
	to  io.Writer
	out *pen  // a piece behind its length
	n   int   // objects gathered for the next
	err error // the first one; nothing is written after it

	nodes, clients, sessions, requests, certificates, applied *pen // rows of the next piece
	leases                                                    leaseRows
}

func writeStream(to io.Writer, s *State, version byte) error {
	sum := sha256.New()
	w := &streamWriter{
		to: io.MultiWriter(to, sum), out: newPen(usualPiece), sessions: newPen(usualPiece), leases: leaseRows{pen: newPen(0)},
	}
	for _, p := range []**pen{&w.nodes, &w.clients, &w.requests, &w.certificates, &w.applied} {
		*p = newPen(0)
	}
	_, w.err = io.WriteString(w.to, snapshotMagic+string(rune(version)))
	w.single(&piece{Head: s.head()})
	w.members(s)
	w.secrets(s)
	w.accounts(s)
	for _, c := range s.applied.results.All() {
		w.row(w.applied).command(c)
		w.added()
	}
	w.flush()
	w.begin()
	w.put()
	if w.err == nil {
		_, w.err = to.Write(sum.Sum(nil))
	}
	if w.err != nil {
		return fmt.Errorf("registry: snapshot: %w", w.err)
	}
	return nil
}

// inOrder walks over a map so that the same state is written as the same bytes.
func inOrder[K comparable, V any](m map[K]V, compare func(a, b K) int) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, k := range slices.SortedFunc(maps.Keys(m), compare) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}

func (w *streamWriter) members(s *State) {
	for _, n := range inOrder(s.Nodes, compareNodes) {
		w.row(w.nodes).value(n)
		w.added()
	}
	var room spentRoom
	for agent, sp := range s.spent.All() {
		for spis := range slices.Chunk(room.list(sp), MaxSpent) {
			w.single(&piece{Spent: []spentPiece{{agent, spis, sp.kept}}})
		}
	}
	for _, t := range inOrder(s.Tokens, strings.Compare) {
		w.single(&piece{Tokens: []*Token{t}})
	}
}

func (w *streamWriter) secrets(s *State) {
	for name, sealed := range inOrder(s.Secrets, strings.Compare) {
		w.single(&piece{Secrets: map[string]Sealed{name: sealed}})
	}
	for name, wrap := range inOrder(s.Wraps, strings.Compare) {
		w.single(&piece{Wraps: map[string][]byte{name: wrap}})
	}
	for _, a := range inOrder(s.Authorities, strings.Compare) {
		w.single(&piece{Authorities: []*Authority{a}})
	}
	for _, c := range s.Certificates.All() {
		w.row(w.certificates).certificate(c)
		w.added()
	}
}

func (w *streamWriter) accounts(s *State) {
	for _, c := range s.Clients.All() {
		w.row(w.clients).client(c)
		w.added()
	}
	for _, ses := range s.Sessions.passing() {
		w.row(w.sessions).session(ses)
		w.added()
	}
	for request, id := range s.Requests.All() {
		p := w.row(w.requests)
		p.hex(request[:])
		p.say(":")
		p.hex(id[:])
		w.added()
	}
	for a, l := range s.Leases.All() {
		w.leases.add(a, l)
		w.added()
	}
}

// leaseRows are leases of a piece. They stand in it in the order of their addresses' text, as
// an object's members do, and come in that of the addresses.
type leaseRows struct {
	*pen
	rows []leaseRow
}

// leaseRow says where the text of the address begins, the lease itself, and where it ends.
type leaseRow struct {
	address          netip.Addr
	key, lease, ends int
}

func (l *leaseRows) add(a netip.Addr, lease *Lease) {
	row := leaseRow{address: a, key: len(l.raw)}
	l.raw = a.AppendTo(l.raw)
	row.lease = len(l.raw)
	l.pen.lease(lease)
	row.ends = len(l.raw)
	l.rows = append(l.rows, row)
}

// into writes them as members, and forgets them.
func (l *leaseRows) into(p *pen) {
	slices.SortFunc(l.rows, func(a, b leaseRow) int {
		return bytes.Compare(l.raw[a.key:a.lease], l.raw[b.key:b.lease])
	})
	for i := range l.rows {
		if i > 0 {
			p.say(",")
		}
		p.address(&l.rows[i].address)
		p.say(":")
		p.raw = append(p.raw, l.raw[l.rows[i].lease:l.rows[i].ends]...)
	}
	l.raw, l.rows = l.raw[:0], l.rows[:0]
}

// row begins another one.
func (w *streamWriter) row(p *pen) *pen {
	if len(p.raw) > 0 {
		p.say(",")
	}
	return p
}

// added counts one more object.
func (w *streamWriter) added() {
	if w.n++; w.n >= MaxPiece {
		w.flush()
	}
}

// single gives a large object a piece of its own.
func (w *streamWriter) single(p *piece) {
	w.flush()
	w.begin()
	w.out.value(p)
	w.put()
}

// flush writes what was gathered as encoding/json would write a piece.
func (w *streamWriter) flush() {
	if w.n == 0 {
		return
	}
	w.n = 0
	w.begin()
	w.out.say("{")
	w.member("nodes", '[', w.nodes, ']')
	w.member("clients", '[', w.clients, ']')
	w.member("sessions", '[', w.sessions, ']')
	w.member("requests", '{', w.requests, '}')
	if len(w.leases.rows) > 0 {
		w.name("leases", '{')
		w.leases.into(w.out)
		w.out.say("}")
	}
	w.member("certificates", '[', w.certificates, ']')
	w.member("applied", '[', w.applied, ']')
	w.out.say("}")
	w.put()
}

// member writes the rows of one kind, and forgets them.
func (w *streamWriter) member(name string, opens byte, rows *pen, closes byte) {
	w.err = cmp.Or(w.err, rows.err)
	if len(rows.raw) == 0 {
		return
	}
	w.name(name, opens)
	w.out.raw = append(append(w.out.raw, rows.raw...), closes)
	rows.raw = rows.raw[:0]
}

func (w *streamWriter) name(name string, opens byte) {
	if len(w.out.raw) > pieceHeader+1 {
		w.out.say(",")
	}
	w.out.text(name)
	w.out.raw = append(w.out.raw, ':', opens)
}

// usualPiece is room for 64 sessions of two slices: to grow to it takes twice as much.
const usualPiece = 128 << 10

// pieceHeader is how many bytes say how long a piece is.
const pieceHeader = 4

// begin leaves room for the length of a piece.
func (w *streamWriter) begin() { w.out.raw = append(w.out.raw[:0], make([]byte, pieceHeader)...) }

// put writes the piece behind its length; an empty one is the end of them.
func (w *streamWriter) put() {
	length := len(w.out.raw) - pieceHeader
	w.err = cmp.Or(w.err, w.out.err, w.leases.err)
	if w.err == nil && length > MaxPieceBytes {
		w.err = fmt.Errorf("a piece of %d bytes, at most %d", length, MaxPieceBytes)
	}
	if w.err == nil {
		binary.BigEndian.PutUint32(w.out.raw, uint32(length))
		_, w.err = w.to.Write(w.out.raw)
	}
}
