package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// ErrHint says that metadata is not a hint of a version this node knows.
var ErrHint = errors.New("mesh: malformed hint")

// Hint is what a node says about itself. It is worth no more than that: the
// arbiter clamps the load to the capacity the registry holds.
type Hint struct {
	Index    identity.Index
	Boot     identity.BootID
	Load     uint32 // thousandths of a CPU in use, foreign use included
	Capacity uint32 // thousandths of a CPU offered
}

// A hint on the wire, big endian:
//
//	version 1 | flags 1 | index 2 | boot 16 | load 4 | capacity 4
const (
	hintVersion = 1
	hintLen     = 28
	flagLeaving = 1 // the node is about to leave of its own will
)

// hintSpacing is how far apart the hints of each of so many members are. Every one
// is passed on by every member several times, a few in each gossip datagram.
func hintSpacing(lib *memberlist.Config, members int) time.Duration {
	repeats := lib.RetransmitMult * int(math.Ceil(math.Log10(float64(members+1))))
	room := lib.GossipNodes * (packetBytes / hintBytes) // in each GossipInterval
	return max(HintInterval, time.Duration(members*repeats*hintShare)*lib.GossipInterval/time.Duration(room))
}

// marshalHint returns the metadata for h.
func marshalHint(h Hint, leaving bool) []byte {
	b := make([]byte, 0, hintLen)
	b = append(b, hintVersion, 0)
	if leaving {
		b[1] = flagLeaving
	}
	b = binary.BigEndian.AppendUint16(b, uint16(h.Index))
	b = append(b, h.Boot[:]...)
	b = binary.BigEndian.AppendUint32(b, h.Load)
	return binary.BigEndian.AppendUint32(b, h.Capacity)
}

// parseHint reads metadata. A version it does not know is an error, not a
// reason to drop the member: nodes of the next release live in the same mesh.
func parseHint(b []byte) (h Hint, leaving bool, err error) {
	if len(b) != hintLen || b[0] != hintVersion || b[1] > flagLeaving {
		return Hint{}, false, fmt.Errorf("%w: %d bytes", ErrHint, len(b))
	}
	h.Index = identity.Index(binary.BigEndian.Uint16(b[2:]))
	if h.Index > identity.MaxIndex {
		return Hint{}, false, fmt.Errorf("%w: index %d", ErrHint, h.Index)
	}
	copy(h.Boot[:], b[4:])
	h.Load = binary.BigEndian.Uint32(b[20:])
	h.Capacity = binary.BigEndian.Uint32(b[24:])
	return h, b[1] == flagLeaving, nil
}
