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
	// NodeLen is the length of every datagram between nodes, in bytes:
	// header 12, asked type 1, load 1, zero 2, sequence 8, MAC 16.
	NodeLen = headerLen + 4 + 8 + macLen
)

// Node is one datagram between nodes.
type Node struct {
	Type     byte           // TypeNode, TypeReply or TypePath
	From     identity.Index // of the sender
	Asked    byte           // of a reply: the type it answers
	Load     Load           // of the sender
	Sequence uint64
}

// Marshal writes the datagram, authenticated under the term's probe key.
func (n Node) Marshal(key []byte) []byte {
	b := n.body()
	return append(b, mac(key, b)...)
}

// body is the datagram but for its MAC.
func (n Node) body() []byte {
	b := make([]byte, headerLen+12, NodeLen)
	b[4], b[5] = n.Type, 1
	binary.BigEndian.PutUint32(b[8:], uint32(n.From)<<20)
	b[headerLen], b[headerLen+1] = n.Asked, byte(n.Load)
	binary.BigEndian.PutUint64(b[headerLen+4:], n.Sequence)
	return b
}

// ParseNode reads and authenticates a datagram between nodes.
func ParseNode(b, key []byte) (n Node, ok bool) {
	if len(b) != NodeLen || !hmac.Equal(b[NodeLen-macLen:], mac(key, b[:NodeLen-macLen])) {
		return n, false
	}
	n = Node{
		Type:     b[4],
		From:     identity.Index(binary.BigEndian.Uint32(b[8:]) >> 20),
		Asked:    b[headerLen],
		Load:     Load(b[headerLen+1]),
		Sequence: binary.BigEndian.Uint64(b[headerLen+4:]),
	}
	// One datagram, one meaning: spare bytes are zero.
	return n, n.Type >= TypeNode && n.Type <= TypePath && bytes.Equal(n.body(), b[:NodeLen-macLen])
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macLen]
}
