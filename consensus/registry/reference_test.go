package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// reference writes snapshots by encoding/json alone, as builds did before there was a pen: what
// those read has to stay byte for byte what they wrote.
type reference struct {
	raw   bytes.Buffer
	comma string
	next  piece
	n     int
}

func byJSON(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func (r *reference) member(name string, v any) {
	r.raw.WriteString(r.comma)
	r.raw.Write(byJSON(name))
	r.raw.WriteString(":")
	r.raw.Write(byJSON(v))
	r.comma = ","
}

func referAll[K, V any](r *reference, name string, all iter.Seq2[K, V], text func(K) string) {
	r.raw.WriteString(r.comma + `"` + name + `":{`)
	r.comma = ""
	for k, v := range all {
		r.member(text(k), v)
	}
	r.raw.WriteString("}")
	r.comma = ","
}

// object is a state as one object.
func (r *reference) object(s *State) []byte {
	r.raw.WriteString("{")
	r.member("cluster", s.Cluster)
	r.member("tick", s.Tick)
	r.member("index", s.Index)
	r.member("term", s.Term)
	referAll(r, "nodes", s.nodesWithSpent(), identity.NodeID.String)
	r.member("indexes", s.Indexes)
	r.member("tokens", s.Tokens)
	referAll(r, "clients", s.Clients.All(), strings.Clone)
	r.member("policy", s.Policy)
	r.member("parts", s.Parts)
	referAll(r, "leases", s.Leases.All(), addressText)
	referAll(r, "sessions", s.Sessions.All(), SessionID.String)
	referAll(r, "requests", s.Requests.All(), RequestID.String)
	r.member("secrets", s.Secrets)
	r.member("wraps", s.Wraps)
	if len(s.Authorities) > 0 {
		r.member("authorities", s.Authorities)
	}
	if s.Certificates.Len() > 0 {
		referAll(r, "certificates", s.Certificates.All(), CertificateID.String)
	}
	r.member("data_key", s.DataKey)
	r.member("applied", s.applied.list())
	r.member("headless_floor", s.HeadlessFloor)
	if s.EpochFloor != 0 {
		r.member("epoch_floor", s.EpochFloor)
	}
	if s.Voters != 0 {
		r.member("voters", s.Voters)
	}
	if s.Enlarged {
		r.member("enlarged", s.Enlarged)
	}
	r.raw.WriteString("}")
	return r.raw.Bytes()
}

// stream is a state in pieces.
func (r *reference) stream(s *State, version byte) []byte {
	r.raw.WriteString(snapshotMagic + string(rune(version)))
	r.single(func(p *piece) { p.Head = s.head() })
	for _, n := range inOrder(s.Nodes, compareNodes) {
		r.add(func(p *piece) { p.Nodes = append(p.Nodes, n) })
	}
	for agent, sp := range s.spent.All() {
		for spis := range slices.Chunk(sp.list(), MaxSpent) {
			r.single(func(p *piece) { p.Spent = append(p.Spent, spentPiece{agent, spis, sp.kept}) })
		}
	}
	for _, t := range inOrder(s.Tokens, strings.Compare) {
		r.single(func(p *piece) { p.Tokens = append(p.Tokens, t) })
	}
	r.secrets(s)
	r.accounts(s)
	for _, c := range s.applied.results.All() {
		r.add(func(p *piece) { p.Applied = append(p.Applied, *c) })
	}
	r.flush()
	r.put(nil)
	sum := sha256.Sum256(r.raw.Bytes())
	return append(r.raw.Bytes(), sum[:]...)
}

func (r *reference) secrets(s *State) {
	for name, sealed := range inOrder(s.Secrets, strings.Compare) {
		r.single(func(p *piece) { p.Secrets = map[string]Sealed{name: sealed} })
	}
	for name, wrap := range inOrder(s.Wraps, strings.Compare) {
		r.single(func(p *piece) { p.Wraps = map[string][]byte{name: wrap} })
	}
	for _, a := range inOrder(s.Authorities, strings.Compare) {
		r.single(func(p *piece) { p.Authorities = append(p.Authorities, a) })
	}
	for _, c := range s.Certificates.All() {
		r.add(func(p *piece) { p.Certificates = append(p.Certificates, c) })
	}
}

func (r *reference) accounts(s *State) {
	for _, c := range s.Clients.All() {
		r.add(func(p *piece) { p.Clients = append(p.Clients, c) })
	}
	for _, ses := range s.Sessions.All() {
		r.add(func(p *piece) { p.Sessions = append(p.Sessions, ses) })
	}
	for request, id := range s.Requests.All() {
		r.add(func(p *piece) {
			if p.Requests == nil {
				p.Requests = map[RequestID]SessionID{}
			}
			p.Requests[request] = id
		})
	}
	for a, l := range s.Leases.All() {
		r.add(func(p *piece) {
			if p.Leases == nil {
				p.Leases = map[netip.Addr]*Lease{}
			}
			p.Leases[a] = l
		})
	}
}

func (r *reference) single(put func(*piece)) {
	r.flush()
	r.add(put)
	r.flush()
}

func (r *reference) add(put func(*piece)) {
	put(&r.next)
	if r.n++; r.n >= MaxPiece {
		r.flush()
	}
}

func (r *reference) flush() {
	if r.n > 0 {
		r.put(byJSON(&r.next))
		r.next, r.n = piece{}, 0
	}
}

func (r *reference) put(raw []byte) {
	r.raw.Write(binary.BigEndian.AppendUint32(nil, uint32(len(raw))))
	r.raw.Write(raw)
}

// asBefore compares what is written of a state, in both codecs, with the reference.
func asBefore(t *testing.T, s *State) {
	t.Helper()
	for what, write := range map[string]struct {
		now    func(io.Writer) error
		before []byte
	}{
		"object": {func(w io.Writer) error { return s.writeObject(newPen(0), w) }, new(reference).object(s)},
		"stream": {
			func(w io.Writer) error { return writeStream(w, s, epochVersion) }, new(reference).stream(s, epochVersion),
		},
	} {
		var now bytes.Buffer
		if err := write.now(&now); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !bytes.Equal(now.Bytes(), write.before) {
			t.Fatalf("another %s:%s", what, difference(string(write.before), now.String()))
		}
	}
}

// TestSnapshotIsAsBefore: in both codecs, whatever a state says.
func TestSnapshotIsAsBefore(t *testing.T) {
	asBefore(t, New())
	s := New()
	for i, c := range script(t) {
		Apply(s, uint64(i+1), 1, c)
		asBefore(t, s)
	}
	for seed := range uint64(6) {
		r := newRun(t, 30+seed)
		for i := range 500 {
			if r.step(); i%25 == 0 {
				asBefore(t, r.s)
			}
		}
	}
	asBefore(t, written(t, 300, 4)) // its leases fill pieces, in another order than their texts have
}
