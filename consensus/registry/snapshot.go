package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// SnapshotVersion is the newest version of the snapshot codec this build reads.
// Versions 3 and 4 add what those of the commands do, version 2 the recovery key
// and the count of voters; a state is written in the oldest one that says all of it.
const SnapshotVersion = 4

const (
	snapshotMagic  = "mcrs"
	snapshotHeader = len(snapshotMagic) + 1 + 8 // magic, version, length of the JSON
)

// Why bytes are no snapshot.
var (
	ErrSnapshot      = errors.New("registry: damaged or foreign snapshot")
	ErrSnapshotNewer = errors.New("registry: snapshot of a newer version")
)

// EncodeSnapshot writes the whole state: magic, version, length, JSON, and a
// SHA-256 over all of it.
func EncodeSnapshot(s *State) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("registry: snapshot: %w", err)
	}
	raw := sealSnapshot(s.version(), body)
	if len(raw) > MaxSnapshot {
		return nil, fmt.Errorf("registry: snapshot of %d bytes, at most %d", len(raw), MaxSnapshot)
	}
	return raw, nil
}

func (s *State) version() byte {
	if s.newest() {
		return 4
	}
	for _, ses := range s.Sessions.All() {
		if ses.newer() {
			return 3
		}
	}
	switch {
	case s.Policy.newer(), len(s.Authorities) > 0, s.Certificates.Len() > 0, s.newerClients(),
		slices.ContainsFunc(s.Parts, Part.dual), s.anyOther():
		return 3
	case len(s.Cluster.Recovery) > 0 || s.Voters > 0:
		return 2
	}
	return 1
}

// newest reports whether the state says what only version 4 of the codecs knows.
func (s *State) newest() bool {
	for _, ses := range s.Sessions.All() {
		if ses.newest() {
			return true
		}
	}
	for _, l := range s.Leases.All() {
		if l.recorded() || !l.Device.IsZero() {
			return true
		}
	}
	for _, n := range s.Nodes {
		if n.Exposed {
			return true
		}
	}
	return s.Policy.Sessions != 0
}

func (s *State) newerClients() bool {
	for _, c := range s.Clients.All() {
		if c.newer() {
			return true
		}
	}
	return false
}

func sealSnapshot(version byte, body []byte) []byte {
	raw := make([]byte, 0, snapshotHeader+len(body)+sha256.Size)
	raw = append(raw, snapshotMagic...)
	raw = append(raw, version)
	raw = binary.BigEndian.AppendUint64(raw, uint64(len(body)))
	raw = append(raw, body...)
	sum := sha256.Sum256(raw)
	return append(raw, sum[:]...)
}

// DecodeSnapshot reads a whole state, or nothing of it.
func DecodeSnapshot(raw []byte) (*State, error) {
	body, err := snapshotBody(raw)
	if err != nil {
		return nil, err
	}
	s := New()
	if err := s.UnmarshalJSON(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

func snapshotBody(raw []byte) ([]byte, error) {
	if len(raw) < snapshotHeader+sha256.Size || len(raw) > MaxSnapshot {
		return nil, fmt.Errorf("%w: %d bytes", ErrSnapshot, len(raw))
	}
	if string(raw[:len(snapshotMagic)]) != snapshotMagic || raw[len(snapshotMagic)] == 0 {
		return nil, fmt.Errorf("%w: not ours", ErrSnapshot)
	}
	if v := raw[len(snapshotMagic)]; v > SnapshotVersion {
		return nil, fmt.Errorf("%w: version %d, known is %d", ErrSnapshotNewer, v, SnapshotVersion)
	}
	end := len(raw) - sha256.Size
	if n := binary.BigEndian.Uint64(raw[len(snapshotMagic)+1:]); n != uint64(end-snapshotHeader) {
		return nil, fmt.Errorf("%w: %d bytes, header says %d", ErrSnapshot, end-snapshotHeader, n)
	}
	sum := sha256.Sum256(raw[:end])
	if subtle.ConstantTimeCompare(sum[:], raw[end:]) != 1 {
		return nil, fmt.Errorf("%w: checksum", ErrSnapshot)
	}
	return raw[snapshotHeader:end], nil
}
