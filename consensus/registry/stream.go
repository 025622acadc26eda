package registry

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// streamVersion is the first whose snapshots are streams: magic, version, pieces of
// JSON with four bytes of length before each, a length of 0, and a SHA-256 over all of
// it. Neither side ever holds more of the bytes than one piece.
const streamVersion = 5

// epochVersion is the first that knows EpochFloor: an older build would refuse the grants.
const epochVersion = 6

// piece is some objects of a state.
type piece struct {
	Head         *head                   `json:"head,omitempty"`
	Nodes        []*Node                 `json:"nodes,omitempty"`
	Spent        []spentPiece            `json:"spent,omitempty"`
	Tokens       []*Token                `json:"tokens,omitempty"`
	Clients      []*Client               `json:"clients,omitempty"`
	Sessions     []*Session              `json:"sessions,omitempty"`
	Requests     map[RequestID]SessionID `json:"requests,omitempty"`
	Leases       map[netip.Addr]*Lease   `json:"leases,omitempty"`
	Secrets      map[string]Sealed       `json:"secrets,omitempty"`
	Wraps        map[string][]byte       `json:"wraps,omitempty"`
	Authorities  []*Authority            `json:"authorities,omitempty"`
	Certificates []*Certificate          `json:"certificates,omitempty"`
	Applied      []AppliedCommand        `json:"applied,omitempty"`
}

// head is what there is once.
type head struct {
	Cluster       Cluster                      `json:"cluster"`
	Tick          Tick                         `json:"tick"`
	Index         uint64                       `json:"index"`
	Term          uint64                       `json:"term"`
	Policy        Policy                       `json:"policy"`
	Parts         []Part                       `json:"parts"`
	Indexes       map[identity.Index]IndexHold `json:"indexes"`
	DataKey       uint64                       `json:"data_key"`
	HeadlessFloor Tick                         `json:"headless_floor"`
	EpochFloor    uint32                       `json:"epoch_floor,omitempty"`
	Voters        int                          `json:"voters,omitempty"`
	Enlarged      bool                         `json:"enlarged,omitempty"`
}

// spentPiece is some of the SPIs of an agent's boot, in order.
type spentPiece struct {
	Agent identity.NodeID `json:"agent"`
	SPIs  []uint32        `json:"spis"`
	Kept  int             `json:"kept"`
}

// streamWriter gathers objects into pieces.
type streamWriter struct {
	out  *bufio.Writer
	next piece
	n    int
	err  error // the first one; nothing is written after it
}

func writeStream(to io.Writer, s *State, version byte) error {
	sum := sha256.New()
	w := &streamWriter{out: bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)}
	_, w.err = w.out.WriteString(snapshotMagic + string(rune(version)))
	w.single(func(p *piece) { p.Head = s.head() })
	w.members(s)
	w.secrets(s)
	w.accounts(s)
	for _, c := range s.applied.results.All() {
		w.add(func(p *piece) { p.Applied = append(p.Applied, *c) })
	}
	w.flush()
	w.put(nil)
	if w.err == nil {
		w.err = w.out.Flush()
	}
	if w.err == nil {
		_, w.err = to.Write(sum.Sum(nil))
	}
	if w.err != nil {
		return fmt.Errorf("registry: snapshot: %w", w.err)
	}
	return nil
}

func (s *State) head() *head {
	return &head{
		Cluster: s.Cluster, Tick: s.Tick, Index: s.Index, Term: s.Term, Policy: s.Policy, Parts: s.Parts,
		Indexes: s.Indexes, DataKey: s.DataKey, HeadlessFloor: s.HeadlessFloor, EpochFloor: s.EpochFloor,
		Voters: s.Voters, Enlarged: s.Enlarged,
	}
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
		w.add(func(p *piece) { p.Nodes = append(p.Nodes, n) })
	}
	for agent, sp := range s.spent.All() {
		for spis := range slices.Chunk(sp.list(), MaxSpent) {
			w.single(func(p *piece) { p.Spent = append(p.Spent, spentPiece{agent, spis, sp.kept}) })
		}
	}
	for _, t := range inOrder(s.Tokens, strings.Compare) {
		w.single(func(p *piece) { p.Tokens = append(p.Tokens, t) })
	}
}

func (w *streamWriter) secrets(s *State) {
	for name, sealed := range inOrder(s.Secrets, strings.Compare) {
		w.single(func(p *piece) { p.Secrets = map[string]Sealed{name: sealed} })
	}
	for name, wrap := range inOrder(s.Wraps, strings.Compare) {
		w.single(func(p *piece) { p.Wraps = map[string][]byte{name: wrap} })
	}
	for _, a := range inOrder(s.Authorities, strings.Compare) {
		w.single(func(p *piece) { p.Authorities = append(p.Authorities, a) })
	}
	for _, c := range s.Certificates.All() {
		w.add(func(p *piece) { p.Certificates = append(p.Certificates, c) })
	}
}

func (w *streamWriter) accounts(s *State) {
	for _, c := range s.Clients.All() {
		w.add(func(p *piece) { p.Clients = append(p.Clients, c) })
	}
	for _, ses := range s.Sessions.All() {
		w.add(func(p *piece) { p.Sessions = append(p.Sessions, ses) })
	}
	for request, id := range s.Requests.All() {
		w.add(func(p *piece) { enter(&p.Requests, request, id) })
	}
	for a, l := range s.Leases.All() {
		w.add(func(p *piece) { enter(&p.Leases, a, l) })
	}
}

func enter[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// single gives a large object a piece of its own.
func (w *streamWriter) single(put func(*piece)) {
	w.flush()
	w.add(put)
	w.flush()
}

func (w *streamWriter) add(put func(*piece)) {
	put(&w.next)
	if w.n++; w.n >= MaxPiece {
		w.flush()
	}
}

func (w *streamWriter) flush() {
	if w.n == 0 || w.err != nil {
		return
	}
	raw, err := json.Marshal(&w.next)
	w.next, w.n, w.err = piece{}, 0, err
	if len(raw) > MaxPieceBytes {
		w.err = fmt.Errorf("a piece of %d bytes, at most %d", len(raw), MaxPieceBytes)
	}
	w.put(raw)
}

// put writes one piece behind its length; none: the end of them.
func (w *streamWriter) put(raw []byte) {
	if w.err == nil {
		_, w.err = w.out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(raw))))
	}
	if w.err == nil {
		_, w.err = w.out.Write(raw)
	}
}

// readStream reads what follows the mark.
func readStream(from io.Reader, mark []byte) (*State, error) {
	sum := sha256.New()
	sum.Write(mark)
	whole := bufio.NewReaderSize(from, 64<<10)
	s, err := New(), error(nil)
	for more := true; more && err == nil; {
		more, err = s.readPiece(io.TeeReader(whole, sum))
	}
	if err == nil {
		err = checkSum(whole, sum.Sum(nil))
	}
	switch {
	case errors.Is(err, ErrSnapshot):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if err := s.consistent(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkSum reads the checksum, behind which there is nothing.
func checkSum(r *bufio.Reader, want []byte) error {
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("%w: checksum", ErrSnapshot)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: bytes behind its end", ErrSnapshot)
	}
	return nil
}

// readPiece takes one piece in; false: that was the end of them.
func (s *State) readPiece(r io.Reader) (more bool, err error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return false, err
	}
	n := binary.BigEndian.Uint32(length[:])
	switch {
	case n == 0:
		return false, nil
	case n > MaxPieceBytes:
		return false, fmt.Errorf("%w: a piece of %d bytes", ErrSnapshot, n)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return false, err
	}
	var p piece
	if err := json.Unmarshal(raw, &p); err != nil {
		return false, err
	}
	return true, s.take(&p)
}
