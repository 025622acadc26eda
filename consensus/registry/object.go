package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"net/netip"
	"strings"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// A snapshot up to version 4 is one JSON object, behind its length: see plain. It is
// written twice, first to nobody, who counts, and never held: one of 10,000 sessions has
// 20 MB.

// spill is how many bytes a pen gathers before they are written.
const spill = 32 << 10

// errLong says that a state has not the bytes that its object may have.
var errLong = errors.New("registry: too long for one object")

// count is how many bytes were written, of at most so many.
type count struct{ bytes, most int }

func (c *count) Write(p []byte) (int, error) {
	if c.bytes += len(p); c.bytes > c.most {
		return 0, errLong
	}
	return len(p), nil
}

// objectBytes is how long the object is; errLong: longer than most.
func (s *State) objectBytes(with *pen, most int) (int, error) {
	c := &count{most: most}
	err := s.writeObject(with, c)
	return c.bytes, err
}

// writeSealed writes the object, of so many bytes, with what is around it.
func (s *State) writeSealed(with *pen, to io.Writer, version byte, length int) error {
	sum := sha256.New()
	both := io.MultiWriter(to, sum)
	head := binary.BigEndian.AppendUint64(append([]byte(snapshotMagic), version), uint64(length))
	if _, err := both.Write(head); err != nil {
		return err
	}
	written := &count{most: length} // a snapshot with another length is one that nobody reads
	if err := s.writeObject(with, io.MultiWriter(written, both)); err != nil {
		return err
	}
	if written.bytes != length {
		return errLong
	}
	_, err := to.Write(sum.Sum(nil))
	return err
}

// MarshalJSON writes the state as one object.
func (s *State) MarshalJSON() ([]byte, error) {
	var raw bytes.Buffer
	err := s.writeObject(newPen(spill), &raw)
	return raw.Bytes(), err
}

// objectWriter writes the members of an object, and those of theirs that may be many one
// by one.
type objectWriter struct {
	*pen
	to    io.Writer
	comma string
}

// writeObject writes what plain reads.
func (s *State) writeObject(with *pen, to io.Writer) error {
	w := &objectWriter{pen: with, to: to}
	w.say("{")
	w.member("cluster", s.Cluster)
	w.member("tick", s.Tick)
	w.member("index", s.Index)
	w.member("term", s.Term)
	writeAll(w, "nodes", s.nodesWithSpent(), (*pen).node, func(p *pen, n *Node) { p.value(n) })
	w.member("indexes", s.Indexes)
	w.member("tokens", s.Tokens)
	writeAll(w, "clients", s.Clients.All(), (*pen).text, (*pen).client)
	w.member("policy", s.Policy)
	w.member("parts", s.Parts)
	writeAll(w, "leases", s.Leases.All(), func(p *pen, a netip.Addr) { p.address(&a) }, (*pen).lease)
	writeAll(w, "sessions", s.Sessions.passing(), func(p *pen, id SessionID) { p.hex(id[:]) }, (*pen).session)
	writeAll(w, "requests", s.Requests.All(),
		func(p *pen, id RequestID) { p.hex(id[:]) }, func(p *pen, id SessionID) { p.hex(id[:]) })
	w.member("secrets", s.Secrets)
	w.member("wraps", s.Wraps)
	if len(s.Authorities) > 0 {
		w.member("authorities", s.Authorities)
	}
	if s.Certificates.Len() > 0 {
		writeAll(w, "certificates", s.Certificates.All(),
			func(p *pen, id CertificateID) { p.hex(id[:]) }, (*pen).certificate)
	}
	w.member("data_key", s.DataKey)
	w.applied(s.applied.results.All())
	w.member("headless_floor", s.HeadlessFloor)
	if s.EpochFloor != 0 {
		w.member("epoch_floor", s.EpochFloor)
	}
	if s.Voters != 0 {
		w.member("voters", s.Voters)
	}
	if s.Enlarged {
		w.member("enlarged", s.Enlarged)
	}
	w.say("}")
	w.spill(0)
	return w.err
}

// spill writes what was gathered, if it is more than so much.
func (w *objectWriter) spill(most int) {
	if len(w.raw) <= most {
		return
	}
	if w.err == nil {
		_, w.err = w.to.Write(w.raw)
	}
	w.raw = w.raw[:0]
}

// member writes a member whole.
func (w *objectWriter) member(name string, v any) {
	w.name(name)
	w.value(v)
	w.comma = ","
	w.spill(spill)
}

// writeAll writes a member of which there may be many, each by itself.
func writeAll[K, V any](w *objectWriter, name string, all iter.Seq2[K, V], key func(*pen, K), row func(*pen, V)) {
	w.name(name)
	w.say("{")
	w.comma = ""
	for k, v := range all {
		w.say(w.comma)
		key(w.pen, k)
		w.say(":")
		row(w.pen, v)
		if w.spill(spill); w.err != nil {
			return
		}
		w.comma = ","
	}
	w.say("}")
	w.comma = ","
}

// applied writes the list of commands; none of them is null, as lists are that are nil.
func (w *objectWriter) applied(all iter.Seq2[uint64, *AppliedCommand]) {
	w.name("applied")
	next := "["
	for _, c := range all {
		w.say(next)
		w.command(c)
		w.spill(spill)
		next = ","
	}
	if next == "[" {
		w.say("null")
		return
	}
	w.say("]")
}

func (w *objectWriter) name(name string) {
	w.say(w.comma)
	w.text(name)
	w.say(":")
}

// nodesWithSpent are the nodes in the order of their text, with their SPIs.
func (s *State) nodesWithSpent() iter.Seq2[identity.NodeID, *Node] {
	byText := func(a, b identity.NodeID) int { return strings.Compare(a.String(), b.String()) }
	return func(yield func(identity.NodeID, *Node) bool) {
		var room spentRoom
		for id, n := range inOrder(s.Nodes, byText) {
			told, sp := *n, s.spent.Get(id)
			told.Spent, told.SpentKept = room.list(sp), sp.kept
			if !yield(id, &told) {
				return
			}
		}
	}
}

func addressText(a netip.Addr) string {
	text, _ := a.MarshalText() // it has no error
	return string(text)
}
