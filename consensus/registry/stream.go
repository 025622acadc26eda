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
	"net/netip"

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

func (s *State) head() *head {
	return &head{
		Cluster: s.Cluster, Tick: s.Tick, Index: s.Index, Term: s.Term, Policy: s.Policy, Parts: s.Parts,
		Indexes: s.Indexes, DataKey: s.DataKey, HeadlessFloor: s.HeadlessFloor, EpochFloor: s.EpochFloor,
		Voters: s.Voters, Enlarged: s.Enlarged,
	}
}

// readStream reads what follows the mark.
func readStream(from io.Reader, mark []byte) (*State, error) {
	sum := sha256.New()
	sum.Write(mark)
	whole := bufio.NewReaderSize(from, 64<<10)
	s, err := New(), error(nil)
	var room []byte // that all pieces take
	for more := true; more && err == nil; {
		more, err = s.readPiece(io.TeeReader(whole, sum), &room)
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
func (s *State) readPiece(r io.Reader, room *[]byte) (more bool, err error) {
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
	raw := sized(room, int(n))
	if _, err := io.ReadFull(r, raw); err != nil {
		return false, err
	}
	var p piece
	if err := json.Unmarshal(raw, &p); err != nil {
		return false, err
	}
	return true, s.take(&p)
}
