package dataplane

import (
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// TCP flags and the offsets of checksum fields within a transport header.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagPSH = 0x08
	flagACK = 0x10
	flagECE = 0x40
	flagCWR = 0x80

	tcpChecksum = 16
	udpChecksum = 6
)

// run is one packet read from the TUN, cut into inner packets one at a time:
// what a network card does with a super-packet. It is owned by one worker and
// points into that worker's buffer.
type run struct {
	inner
	packet  []byte
	headers int    // bytes of all headers
	size    int    // payload bytes of each segment
	done    int    // payload bytes before the next segment
	index   int    // of the next segment
	stride  int    // from one segment to the next, above 1 where others take turns
	base    uint64 // sum of the pseudo header without its length
	single  bool   // the packet goes as it is
}

// load takes the packet with its offload header and completes the checksum of
// one that goes as it is.
func (r *run) load(h tun.VnetHeader, packet []byte) Reason {
	if reason := r.parse(packet); reason != Pass {
		return reason
	}
	r.packet = packet[:r.total]
	r.turn(0, 1)
	kind := h.GSOType &^ tun.GSOECN
	r.single = kind == tun.GSONone
	if r.single {
		return completeChecksum(h, r.packet)
	}
	if r.fragment || !r.transport(kind) || h.GSOSize == 0 {
		return DropOffload
	}
	r.size = int(h.GSOSize)
	r.base = r.pseudo(packet)
	return Pass
}

// transport sets the length of all headers if the packet is what its offload
// type says. The kernel's own header length is no help: for a forwarded packet
// it covers whatever happened to be linear.
func (r *run) transport(kind uint8) bool {
	switch {
	case kind == tun.GSOTCPv4 && !r.v6 || kind == tun.GSOTCPv6 && r.v6:
		if r.proto != protoTCP || r.total < r.header+tcpHeaderLen {
			return false
		}
		offset := int(r.packet[r.header+12]>>4) * 4
		r.headers = r.header + offset
		return offset >= tcpHeaderLen && r.headers < r.total
	case kind == tun.GSOUDPL4:
		r.headers = r.header + udpHeaderLen
		return r.proto == protoUDP && r.headers < r.total
	}
	return false
}

// completeChecksum does what NEEDS_CSUM asks for: the field already holds the
// pseudo header's sum.
func completeChecksum(h tun.VnetHeader, packet []byte) Reason {
	if h.Flags&tun.FlagNeedsCsum == 0 {
		return Pass
	}
	start, at := int(h.CsumStart), int(h.CsumStart)+int(h.CsumOffset)
	if at+2 > len(packet) {
		return DropOffload
	}
	c := ^fold(sum(packet[start:], 0))
	if c == 0 && h.CsumOffset == udpChecksum {
		c = 0xffff
	}
	store(packet[at:], c)
	return Pass
}

// turn begins the cutting of every stride-th segment from the first on.
func (r *run) turn(first, stride int) {
	r.index, r.done, r.stride = first, first*r.size, stride
}

// left is how many inner packets of this turn are still to come.
func (r *run) left() int {
	if r.single {
		return max(1-r.index, 0)
	}
	segments := (r.total - r.headers - r.done + r.size - 1) / r.size
	if r.stride == 1 {
		return max(segments, 0)
	}
	return max((segments+r.stride-1)/r.stride, 0)
}

// fit is how many of the next packets make one train, in datagrams of so many
// bytes; 0 if not even one does.
func (r *run) fit(segment int) int {
	return min(r.left(), link.MaxSegments, link.MaxTrain/segment)
}

// length is the size of the next inner packet.
func (r *run) length() int {
	if r.single {
		return r.total
	}
	return r.headers + min(r.size, r.total-r.headers-r.done)
}

// bytes is the size of the next n inner packets.
func (r *run) bytes(n int) int {
	if r.single {
		return r.total
	}
	before := (n - 1) * r.size // whole ones; the last of all may be shorter
	return n*r.headers + before + min(r.size, r.total-r.headers-r.done-before*r.stride)
}

// cut writes the next inner packet to dst and returns its length.
func (r *run) cut(dst []byte) int {
	n := r.length()
	dst = dst[:n]
	if r.single {
		copy(dst, r.packet)
		r.index++
		return n
	}
	copy(dst, r.packet[:r.headers])
	from := r.headers + r.done
	copy(dst[r.headers:], r.packet[from:from+n-r.headers])
	r.fixNetwork(dst)
	if r.proto == protoTCP {
		r.fixTCP(dst)
	} else {
		r.fixUDP(dst)
	}
	r.done += r.stride * r.size
	r.index += r.stride
	return n
}

// fixNetwork gives a segment its length, and in IPv4 its identification and
// header checksum. Identifications count up as the kernel's own segmentation
// does.
func (r *run) fixNetwork(p []byte) {
	if r.v6 {
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-ipv6HeaderLen))
		return
	}
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	id := binary.BigEndian.Uint16(r.packet[4:]) + uint16(r.index)
	binary.BigEndian.PutUint16(p[4:], id)
	fixIPv4Checksum(p[:r.header])
}

func fixIPv4Checksum(header []byte) {
	header[10], header[11] = 0, 0
	store(header[10:], ^fold(sumTail(header, 0)))
}

// fixTCP gives a segment its sequence number, flags and checksum. CWR belongs
// to the first segment only, FIN and PSH to the last.
func (r *run) fixTCP(p []byte) {
	t := p[r.header:]
	seq := binary.BigEndian.Uint32(r.packet[r.header+4:]) + uint32(r.done)
	binary.BigEndian.PutUint32(t[4:], seq)
	if r.index > 0 {
		t[13] &^= flagCWR
	}
	if r.headers+r.done+r.size < r.total {
		t[13] &^= flagFIN | flagPSH
	}
	t[tcpChecksum], t[tcpChecksum+1] = 0, 0
	store(t[tcpChecksum:], ^fold(sum(t, add(r.base, word(uint16(len(t)))))))
}

func (r *run) fixUDP(p []byte) {
	u := p[r.header:]
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	u[udpChecksum], u[udpChecksum+1] = 0, 0
	c := ^fold(sum(u, add(r.base, word(uint16(len(u))))))
	if c == 0 {
		c = 0xffff
	}
	store(u[udpChecksum:], c)
}
