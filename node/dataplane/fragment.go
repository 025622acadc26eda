package dataplane

import "encoding/binary"

// Fields of the IPv4 header that fragmenting is about (RFC 791 3.1).
const (
	flagDF     = 0x40 // in byte 6
	bitMF      = 0x2000
	maskOffset = 0x1fff
)

// fragmenter cuts an IPv4 packet into fragments (RFC 791 3.2); the packet may
// be a fragment itself.
type fragmenter struct {
	packet []byte
	header int // of the packet
	later  int // of every fragment but the first: options that are not to be copied are left out
	most   int
	done   int // payload bytes cut so far
}

func newFragmenter(packet []byte, in *inner, most int) *fragmenter {
	return &fragmenter{
		packet: packet[:in.total], header: in.header, most: most,
		later: ipv4HeaderLen + copiedOptions(nil, packet[ipv4HeaderLen:in.header]),
	}
}

func (f *fragmenter) more() bool { return f.header+f.done < len(f.packet) }

// cut writes the next fragment and returns its length; 0 if none fits.
func (f *fragmenter) cut(dst []byte) int {
	header := f.header
	if f.done > 0 {
		header = f.later
	}
	payload := f.packet[f.header+f.done:]
	last := len(payload) <= f.most-header
	if !last {
		room := (f.most - header) &^ 7
		if room <= 0 {
			return 0
		}
		payload = payload[:room]
	}
	b := dst[:header+len(payload)]
	copy(b, f.packet[:min(header, f.header)])
	if f.done > 0 {
		copiedOptions(b[ipv4HeaderLen:header], f.packet[ipv4HeaderLen:f.header])
	}
	copy(b[header:], payload)
	b[0] = 0x40 | byte(header/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	was := binary.BigEndian.Uint16(f.packet[6:])
	place := was&^maskOffset | (was&maskOffset + uint16(f.done/8))
	if !last {
		place |= bitMF
	}
	binary.BigEndian.PutUint16(b[6:], place)
	fixIPv4Checksum(b[:header])
	f.done += len(payload)
	return len(b)
}

// copiedOptions writes those options that every fragment carries, padded to
// words, and returns their length; a nil dst only counts.
func copiedOptions(dst, options []byte) (n int) {
	const end, nothing, copied = 0, 1, 0x80
	for len(options) > 0 && options[0] != end {
		size := 1
		if options[0] != nothing {
			if len(options) < 2 || int(options[1]) < 2 || int(options[1]) > len(options) {
				break
			}
			size = int(options[1])
		}
		if options[0]&copied != 0 {
			if dst != nil {
				copy(dst[n:], options[:size])
			}
			n += size
		}
		options = options[size:]
	}
	padded := (n + 3) &^ 3
	if dst != nil {
		clear(dst[n:padded])
	}
	return padded
}
