package probe

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Types of the datagrams between nodes; the fifth byte of a non-ESP datagram.
const (
	TypeNode  = 4 // are you there
	TypeReply = 5 // answer to either
	TypePath  = 6 // plaintext, sent through the asker's own TUN
)

const (
	headerLen = 12
	macLen    = 16
	// NodeLen is the length of a datagram between nodes, in bytes: header 12,
	// asked type 1, load 1, size 2, sequence 8, MAC 16. A padded one has its own
	// length as its size, and zeros ahead of the MAC; the size is zero otherwise.
	NodeLen = headerLen + 4 + 8 + macLen
)

// Node is one datagram between nodes.
type Node struct {
	Type     byte           // TypeNode, TypeReply or TypePath
	From     identity.Index // of the sender
	Asked    byte           // of a reply: the type it answers
	Says     Says           // of the sender, in TypeNode and answers to it
	Load     Load           // of the sender
	Sequence uint64
	// Size is the length of the whole datagram, which tests what the way takes:
	// above NodeLen, up to MaxPadded. 0: NodeLen.
	Size int
}

// Says is what a node says of itself beside its load. It travels in the upper
// bits of the asked type, which nodes that know nothing of it look at only where
// they compare it with TypePath.
type Says byte

// What a node may say.
const (
	// SaysAiling is that something is wrong on the sender's host just now, so
	// that tests by way of it show nothing.
	SaysAiling Says = 0x80
	// SaysBroken is that the sender does not forward, and that its second is to
	// take what it holds.
	SaysBroken Says = 0x40
	// SaysTaken is that the sender took over, as second, from who does not forward.
	SaysTaken Says = 0x20

	saysMask = byte(SaysAiling | SaysBroken | SaysTaken)
)

// Marshal writes the datagram, authenticated under the mesh's probe key.
func (n Node) Marshal(key []byte) []byte {
	b := n.body(make([]byte, max(NodeLen, n.Size))[:0])
	return append(b, mac(key, b)...)
}

// body is the datagram but for its MAC, in room where that is enough.
func (n Node) body(room []byte) []byte {
	b := append(room, make([]byte, max(NodeLen, n.Size)-macLen)...)
	b[4], b[5] = n.Type, 1
	binary.BigEndian.PutUint32(b[8:], uint32(n.From)<<20)
	b[headerLen], b[headerLen+1] = n.Asked|byte(n.Says), byte(n.Load)
	if n.Size > NodeLen {
		binary.BigEndian.PutUint16(b[headerLen+2:], uint16(n.Size))
	}
	binary.BigEndian.PutUint64(b[headerLen+4:], n.Sequence)
	return b
}

// ParseNode reads and authenticates a datagram between nodes.
func ParseNode(b, key []byte) (n Node, ok bool) {
	if len(b) < NodeLen || len(b) > MaxPadded {
		return n, false
	}
	said := b[:len(b)-macLen]
	if !hmac.Equal(b[len(said):], mac(key, said)) {
		return n, false
	}
	n = Node{
		Type:     b[4],
		From:     identity.Index(binary.BigEndian.Uint32(b[8:]) >> 20),
		Asked:    b[headerLen] &^ saysMask,
		Says:     Says(b[headerLen] & saysMask),
		Load:     Load(b[headerLen+1]),
		Sequence: binary.BigEndian.Uint64(b[headerLen+4:]),
		Size:     int(binary.BigEndian.Uint16(b[headerLen+2:])),
	}
	// One datagram, one meaning: spare bytes are zero.
	var room [NodeLen]byte
	return n, n.Type >= TypeNode && n.Type <= TypePath && bytes.Equal(n.body(room[:0]), said)
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macLen]
}
