package protocol

import (
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Known is how far the mesh's history went, as an arbiter told it: the entry at Index was
// committed in the term of the fence. It is signed, for who passes it on may be a node
// whose word alone must not keep voters from electing anybody.
type Known struct {
	Fence
	Index     uint64             `json:"index"`
	By        identity.PublicKey `json:"by,omitzero"` // the arbiter's key; zero: of the fence alone
	Signature []byte             `json:"signature,omitempty"`
	// Leadership is the number of the arbiter's in the log, for a term may have been led
	// twice; Vouched signs it with all the rest. Older builds know neither, and read Signature.
	Leadership []byte `json:"leadership,omitempty"`
	Vouched    []byte `json:"vouched,omitempty"`
	Keep       bool   `json:"keep,omitempty"` // the reader puts it on disk at once; not signed, for it says nothing of the log
}

// MaxLeadership is how long the number of a leadership may be (I10): each node keeps the
// word, on its disk too, and says it in its hello, which has to fit into a frame.
const MaxLeadership = 64

const (
	knownContext   = "meshcrypt known 1"
	vouchedContext = "meshcrypt known 2"
)

// SignKnown is an arbiter's word.
func SignKnown(key identity.Key, cluster identity.ClusterID, fence Fence, index uint64, leadership string) Known {
	k := Known{Fence: fence, Index: index, By: key.Public(), Leadership: []byte(leadership)}
	k.Signature = key.Sign(knownContext, k.signed(cluster))
	if leadership != "" {
		k.Vouched = key.Sign(vouchedContext, k.vouched(cluster))
	}
	return k
}

// Genuine says that the arbiter it names said it, all of it. Whether that key may be an
// arbiter is for the reader to know.
func (k Known) Genuine(cluster identity.ClusterID) bool {
	vouched := len(k.Vouched) == 0
	if len(k.Leadership) > 0 {
		vouched = len(k.Leadership) <= MaxLeadership && k.By.Verify(vouchedContext, k.vouched(cluster), k.Vouched)
	}
	return vouched && k.By.Verify(knownContext, k.signed(cluster), k.Signature)
}

func (k Known) signed(cluster identity.ClusterID) []byte {
	b := append([]byte(nil), cluster[:]...)
	b = binary.BigEndian.AppendUint64(b, k.Incarnation)
	b = binary.BigEndian.AppendUint64(b, k.Term)
	return binary.BigEndian.AppendUint64(b, k.Index)
}

func (k Known) vouched(cluster identity.ClusterID) []byte {
	return append(k.signed(cluster), k.Leadership...)
}

// Less orders them as arbiters and their logs follow each other.
func (k Known) Less(o Known) bool {
	switch {
	case k.Incarnation != o.Incarnation:
		return k.Incarnation < o.Incarnation
	case k.Term != o.Term:
		return k.Term < o.Term
	}
	return k.Index < o.Index
}
