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
	for _, ses := range s.Sessions {
		if ses != nil && ses.newer() {
			return 3
		}
	}
	switch {
	case s.Policy.newer(), len(s.Authorities) > 0, len(s.Certificates) > 0, s.newerClients(),
		slices.ContainsFunc(s.Parts, Part.dual), s.anyOther():
		return 3
	case len(s.Cluster.Recovery) > 0 || s.Voters > 0:
		return 2
	}
	return 1
}

// newest reports whether the state says what only version 4 of the codecs knows.
func (s *State) newest() bool {
	for _, ses := range s.Sessions {
		if ses != nil && ses.newest() {
			return true
		}
	}
	for _, l := range s.Leases {
		if l != nil && (l.recorded() || !l.Device.IsZero()) {
			return true
		}
	}
	for _, n := range s.Nodes {
		if n != nil && n.Exposed {
			return true
		}
	}
	return s.Policy.Sessions != 0
}

func (s *State) newerClients() bool {
	for _, c := range s.Clients {
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
	s := &State{}
	if err := json.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	s.makeMaps()
	if err := s.consistent(); err != nil {
		return nil, err
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

// consistent refuses a state on which Apply could stumble: no absent objects, and
// every reference leads somewhere.
func (s *State) consistent() error {
	for id, n := range s.Nodes {
		if n == nil || n.ID != id {
			return fmt.Errorf("%w: node %s", ErrSnapshot, id.Short())
		}
	}
	for id, t := range s.Tokens {
		if t == nil || t.Burned == nil {
			return fmt.Errorf("%w: token %q", ErrSnapshot, clip(id))
		}
	}
	for name, c := range s.Clients {
		if c == nil {
			return fmt.Errorf("%w: client %q", ErrSnapshot, clip(name))
		}
	}
	for name, a := range s.Authorities {
		if a == nil {
			return fmt.Errorf("%w: authority %q", ErrSnapshot, clip(name))
		}
	}
	for id, cert := range s.Certificates {
		if cert == nil || cert.ID != id {
			return fmt.Errorf("%w: certificate %s", ErrSnapshot, id)
		}
	}
	return s.consistentSessions()
}

func (s *State) consistentSessions() error {
	for a, l := range s.Leases {
		if l == nil || !l.idle() && s.Sessions[l.Session] == nil {
			return fmt.Errorf("%w: lease %s", ErrSnapshot, a)
		}
	}
	for id, ses := range s.Sessions {
		if ses == nil || ses.ID != id {
			return fmt.Errorf("%w: session %s", ErrSnapshot, id.Short())
		}
	}
	for request, id := range s.Requests {
		if s.Sessions[id] == nil {
			return fmt.Errorf("%w: request %s", ErrSnapshot, request)
		}
	}
	return nil
}
