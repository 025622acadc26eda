package probe

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
)

// TypeVerdict is a client's verdict on its way from the agent that heard it to
// the session's egress.
const TypeVerdict = 7

// SliceVerdictLen is the length of a SliceVerdict, in bytes: header 12,
// session 16, number 1, zero 3, epoch 4, MAC 16.
const SliceVerdictLen = headerLen + 16 + 8 + macLen

// SliceVerdict says that the client of a session finds one epoch of a slice
// silent.
type SliceVerdict struct {
	Over    uint32 // granted SPI of the slice inside which the client said so
	Session [16]byte
	Number  uint8
	Epoch   uint32
}

// Marshal writes the datagram, authenticated under the mesh's probe key.
func (v SliceVerdict) Marshal(key []byte) []byte {
	b := v.body()
	return append(b, mac(key, b)...)
}

// body is the datagram but for its MAC.
func (v SliceVerdict) body() []byte {
	b := make([]byte, headerLen, SliceVerdictLen)
	b[4], b[5] = TypeVerdict, 1
	binary.BigEndian.PutUint32(b[8:], v.Over)
	b = append(b, v.Session[:]...)
	b = append(b, v.Number, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, v.Epoch)
}

// ParseSliceVerdict reads and authenticates a verdict between nodes.
func ParseSliceVerdict(b, key []byte) (v SliceVerdict, ok bool) {
	if len(b) != SliceVerdictLen || !hmac.Equal(b[SliceVerdictLen-macLen:], mac(key, b[:SliceVerdictLen-macLen])) {
		return v, false
	}
	at := b[headerLen:]
	v = SliceVerdict{
		Over: binary.BigEndian.Uint32(b[8:]), Session: [16]byte(at),
		Number: at[16], Epoch: binary.BigEndian.Uint32(at[20:]),
	}
	// One datagram, one meaning: spare bytes are zero.
	return v, bytes.Equal(v.body(), b[:SliceVerdictLen-macLen])
}
