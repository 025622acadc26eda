package registry

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// SnapshotVersion is the newest version of the snapshot codec this build reads.
// Version 6 is of a mesh that was recovered, and leaves out epochs. Version 5 is a stream, of a
// mesh with more room, as are later ones. Versions 3 and 4 add what those
// of the commands do, version 2 the recovery key
// and the count of voters; a state is written in the oldest one that says all of it.
const SnapshotVersion = epochVersion

const (
	snapshotMagic  = "mcrs"
	snapshotHeader = len(snapshotMagic) + 1 + 8 // magic, version, length of the JSON
)

// Why bytes are no snapshot.
var (
	ErrSnapshot      = errors.New("registry: damaged or foreign snapshot")
	ErrSnapshotNewer = errors.New("registry: snapshot of a newer version")
)

// EncodeSnapshot is what WriteSnapshot writes.
func EncodeSnapshot(s *State) ([]byte, error) {
	var raw bytes.Buffer
	err := WriteSnapshot(&raw, s)
	return raw.Bytes(), err
}

// WriteSnapshot writes the whole state. Up to version 4 that is magic, version,
// length, JSON, and a SHA-256 over all of it; what older builds have no room for, and
// what is too long for one JSON object, is a stream of pieces: see stream.go.
func WriteSnapshot(w io.Writer, s *State) error { return writeWithin(w, s, MaxSnapshot) }

// writeWithin writes a stream where one object would have more bytes than most.
func writeWithin(w io.Writer, s *State, most int) error {
	version := s.version()
	if version >= streamVersion {
		return writeStream(w, s, version)
	}
	with := newPen(2 * spill) // what is gathered, and a row
	length, err := s.objectBytes(with, most)
	if errors.Is(err, errLong) {
		return writeStream(w, s, streamVersion)
	}
	if err == nil {
		err = s.writeSealed(with, w, version, length)
	}
	if err != nil {
		return fmt.Errorf("registry: snapshot: %w", err)
	}
	return nil
}

func (s *State) version() byte {
	switch {
	case s.EpochFloor > 0:
		return epochVersion
	case s.Enlarged:
		return streamVersion
	case s.newest():
		return 4
	}
	for _, ses := range s.Sessions.passing() {
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
	for _, ses := range s.Sessions.passing() {
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

// DecodeSnapshot reads a whole state, or nothing of it.
func DecodeSnapshot(raw []byte) (*State, error) { return ReadSnapshot(bytes.NewReader(raw)) }

// ReadSnapshot reads a whole state to the end of its bytes, or nothing of it.
func ReadSnapshot(r io.Reader) (*State, error) {
	mark := make([]byte, len(snapshotMagic)+1)
	if _, err := io.ReadFull(r, mark); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	version := mark[len(snapshotMagic)]
	switch {
	case string(mark[:len(snapshotMagic)]) != snapshotMagic || version == 0:
		return nil, fmt.Errorf("%w: not ours", ErrSnapshot)
	case version > SnapshotVersion:
		return nil, fmt.Errorf("%w: version %d, known is %d", ErrSnapshotNewer, version, SnapshotVersion)
	case version >= streamVersion:
		return readStream(r, mark)
	}
	body, err := readObject(r, mark)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	s := New()
	if err := s.UnmarshalJSON(body); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

// readObject reads what follows the mark of a snapshot that is one JSON object.
func readObject(r io.Reader, mark []byte) ([]byte, error) {
	var length [8]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint64(length[:])
	if n > MaxSnapshot {
		return nil, fmt.Errorf("%d bytes, at most %d", n, MaxSnapshot)
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	sum := sha256.New()
	sum.Write(mark)
	sum.Write(length[:])
	sum.Write(raw)
	return raw, checkSum(bufio.NewReader(r), sum.Sum(nil))
}
