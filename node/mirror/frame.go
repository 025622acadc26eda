package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/conntrack"
)

// kind is what a frame says. A frame is two bytes of length, one of kind, and
// the rest; kinds that are not known are passed over.
type kind uint8

const (
	kindWant  kind = 1 + iota // second to egress, first: prefixes
	kindBegin                 // all flows follow
	kindFlow                  // one flow as it is now
	kindGone                  // one flow is no more
	kindEnd                   // those were all
	kindAlive
	// kindBeats is the first frame of an egress, to a second that knows it: what both say
	// from then on travels in a loop.Pipe.
	kindBeats
)

// ErrFrame is returned for bytes that are no frame.
var ErrFrame = errors.New("mirror: malformed frame")

func appendFrame(b []byte, k kind, body []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(1+len(body)))
	return append(append(b, byte(k)), body...)
}

// readFrame reads one frame into b, which holds maxFrame bytes.
func readFrame(r io.Reader, b []byte) (kind, []byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n == 0 || n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrFrame, n)
	}
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return 0, nil, err
	}
	return kind(b[0]), b[1:n], nil
}

// appendPrefixes encodes a request.
func appendPrefixes(b []byte, prefixes []netip.Prefix) []byte {
	for _, p := range prefixes {
		address := p.Addr().AsSlice()
		b = append(append(b, byte(len(address)), byte(p.Bits())), address...)
	}
	return b
}

func parsePrefixes(b []byte) (prefixes []netip.Prefix, err error) {
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[0]) || len(prefixes) == MaxPrefixes {
			return nil, fmt.Errorf("%w: prefixes", ErrFrame)
		}
		address, ok := netip.AddrFromSlice(b[2 : 2+int(b[0])])
		p := netip.PrefixFrom(address, int(b[1]))
		if !ok || address.Is4In6() || !p.IsValid() || p != p.Masked() {
			return nil, fmt.Errorf("%w: prefix", ErrFrame)
		}
		prefixes, b = append(prefixes, p), b[2+int(b[0]):]
	}
	return prefixes, nil
}

// parseFlow reads a frame's one flow.
func parseFlow(b []byte) (conntrack.Flow, error) {
	f, rest, err := conntrack.Parse(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after a flow", ErrFrame, len(rest))
	}
	return f, err
}
