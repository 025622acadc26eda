package trunk

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFrame says that the other end broke the rules: no trunk goes on after that.
var ErrFrame = errors.New("trunk: the other end broke the rules")

// kind is what a frame says. Unknown ones are ignored, for builds that come.
type kind byte

const (
	// kindOpen begins a stream; its body says whose it is. Only who dialled the trunk
	// opens streams, with numbers that go up and never come again.
	kindOpen kind = 1 + iota
	kindData
	// kindCredit lets the other end send so many bytes more: 4 bytes.
	kindCredit
	// kindEnd is the last of its direction.
	kindEnd
	// kindClose is the last of the stream: its sender neither says nor hears more.
	kindClose
)

// A frame is kind 1 | stream 4 | length 2 | body, big endian. Frames travel in a loop.Pipe,
// whose beats keep the trunk.
const headerSize = 1 + 4 + 2

type header struct {
	kind   kind
	stream uint32
	length int
}

func parseHeader(b []byte) (header, error) {
	h := header{kind(b[0]), binary.BigEndian.Uint32(b[1:]), int(binary.BigEndian.Uint16(b[5:]))}
	if h.length > MaxBody {
		return h, fmt.Errorf("%w: a frame of %d bytes", ErrFrame, h.length)
	}
	return h, nil
}

// appendFrame appends a frame; its body is MaxBody at most.
func appendFrame(to []byte, k kind, stream uint32, body []byte) []byte {
	to = binary.BigEndian.AppendUint32(append(to, byte(k)), stream)
	to = binary.BigEndian.AppendUint16(to, uint16(len(body)))
	return append(to, body...)
}
