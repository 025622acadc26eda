package dataplane

// Congestion marks (RFC 3168) and what becomes of them at a tunnel's ends (RFC
// 6040): the outer header starts with the inner one's TOS, and what routers
// marked there comes back into the inner one.
const (
	maskECN = 3
	ecnNot  = 0
	ecnECT1 = 1
	ecnECT0 = 2
	ecnCE   = 3
)

// congest combines the mark that the packet met outside with its own (RFC 6040
// 4.2). Who cannot be told by a mark is told by a loss.
func (in *inner) congest(packet []byte, outer uint8) Reason {
	own := in.tos & maskECN
	switch outer & maskECN {
	case ecnCE:
		if own == ecnNot {
			return DropECN
		}
		own = ecnCE
	case ecnECT1:
		if own != ecnECT0 {
			return Pass
		}
		own = ecnECT1
	default:
		return Pass
	}
	in.setTOS(packet, in.tos&^maskECN|own)
	return Pass
}

// setTOS writes the field and corrects the header's checksum.
func (in *inner) setTOS(packet []byte, tos uint8) {
	if in.v6 {
		packet[0] = packet[0]&0xf0 | tos>>4
		packet[1] = packet[1]&0x0f | tos<<4
	} else {
		old := uint16(packet[0])<<8 | uint16(packet[1])
		packet[1] = tos
		fixChecksum(packet[10:], old, uint16(packet[0])<<8|uint16(tos), false)
	}
	in.tos = tos
}
