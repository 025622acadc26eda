package conntrack

import (
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Attributes of a connection, as linux/netfilter/nfnetlink_conntrack.h numbers
// them.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoInfo  = 4
	ctaNATSrc     = 6
	ctaTimeout    = 7

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum   = 1
	ctaSourcePort = 2
	ctaTargetPort = 3

	ctaProtoInfoTCP  = 1
	ctaTCPState      = 1
	ctaTCPScaleOrig  = 2
	ctaTCPScaleReply = 3
	ctaTCPFlagsOrig  = 4
	ctaTCPFlagsReply = 5

	ctaNATv4MinIP  = 1
	ctaNATv4MaxIP  = 2
	ctaNATProto    = 3
	ctaNATv6MinIP  = 4
	ctaNATv6MaxIP  = 5
	ctaNATPortMin  = 1
	ctaNATPortMax  = 2
	statusReplied  = 1 << 1
	statusAssured  = 1 << 2
	statusConfirm  = 1 << 3
	statusSNAT     = 1 << 4
	tcpBeLiberal   = 0x08
	tcpFlagsCopied = 0x01 | 0x02 // window scale and SACK were offered
	// maxState is TCP_CONNTRACK_SYN_SENT2, the last state a flow rests in.
	maxState = 9
)

// echoAttributes are where the identifier, type and code of an echo are, of
// either family, and the type and code of a request and its reply.
type echoAttributes struct {
	id, kind, code uint16
	request, reply uint8
}

func echoOf(proto uint8) (echoAttributes, bool) {
	switch proto {
	case protoICMP:
		return echoAttributes{4, 5, 6, 8, 0}, true
	case protoICMPv6:
		return echoAttributes{7, 8, 9, 128, 129}, true
	}
	return echoAttributes{}, false
}

// tuple is one direction of a flow as the kernel tells it.
type tuple struct {
	proto    uint8
	src, dst netip.AddrPort
}

// decode reads the flow of a kernel's message. False is for what is not
// masqueraded, or of a protocol that is not mirrored.
func decode(data []byte) (Flow, bool) {
	if len(data) < nfgenLen {
		return Flow{}, false
	}
	ad, err := netlink.NewAttributeDecoder(data[nfgenLen:])
	if err != nil {
		return Flow{}, false
	}
	ad.ByteOrder = binary.BigEndian
	var f Flow
	var orig, reply tuple
	var status uint32
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			ad.Nested(orig.decode)
		case ctaTupleReply:
			ad.Nested(reply.decode)
		case ctaStatus:
			status = ad.Uint32()
		case ctaTimeout:
			f.Timeout = ad.Uint32()
		case ctaProtoInfo:
			ad.Nested(f.decodeProtoInfo)
		}
	}
	f.Key = Key{Proto: orig.proto, Source: orig.src, Destination: orig.dst}
	f.NAT = reply.dst
	if _, echo := echoOf(orig.proto); echo {
		f.NAT = netip.AddrPortFrom(reply.dst.Addr(), reply.src.Port())
	}
	f.Replied, f.Assured = status&statusReplied != 0, status&statusAssured != 0
	good := ad.Err() == nil && status&statusSNAT != 0 && f.Source.IsValid() && f.NAT.IsValid()
	return f, good && f.check() == nil
}

func (t *tuple) decode(ad *netlink.AttributeDecoder) error {
	var src, dst netip.Addr
	var ports [2]uint16
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleIP:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					switch a, _ := netip.AddrFromSlice(ad.Bytes()); ad.Type() {
					case ctaIPv4Src, ctaIPv6Src:
						src = a
					case ctaIPv4Dst, ctaIPv6Dst:
						dst = a
					}
				}
				return nil
			})
		case ctaTupleProto:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				ports = t.decodeProto(ad)
				return nil
			})
		}
	}
	t.src, t.dst = netip.AddrPortFrom(src, ports[0]), netip.AddrPortFrom(dst, ports[1])
	return nil
}

// decodeProto gives the ports; of an echo, the identifier as that of the source.
func (t *tuple) decodeProto(ad *netlink.AttributeDecoder) (ports [2]uint16) {
	for ad.Next() {
		switch ad.Type() {
		case ctaProtoNum:
			t.proto = ad.Uint8()
		case ctaSourcePort:
			ports[0] = ad.Uint16()
		case ctaTargetPort:
			ports[1] = ad.Uint16()
		default:
			if echo, ok := echoOf(t.proto); ok && ad.Type() == echo.id {
				ports[0] = ad.Uint16()
			}
		}
	}
	return ports
}

func (f *Flow) decodeProtoInfo(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() != ctaProtoInfoTCP {
			continue
		}
		ad.Nested(func(ad *netlink.AttributeDecoder) error {
			for ad.Next() {
				switch ad.Type() {
				case ctaTCPState:
					f.State = ad.Uint8()
				case ctaTCPScaleOrig:
					f.Scales[0] = ad.Uint8()
				case ctaTCPScaleReply:
					f.Scales[1] = ad.Uint8()
				case ctaTCPFlagsOrig:
					f.Flags[0] = firstByte(ad.Bytes())
				case ctaTCPFlagsReply:
					f.Flags[1] = firstByte(ad.Bytes())
				}
			}
			return nil
		})
	}
	return nil
}

func firstByte(b []byte) uint8 {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}

// Lengths and header of a netfilter message.
const nfgenLen = 4

func header(family uint8) []byte { return []byte{family, unix.NFNETLINK_V0, 0, 0} }

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// encoder writes one message; the first error of its attributes is kept by
// the library until Encode.
func encoder() *netlink.AttributeEncoder {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	return ae
}

// named is a message that only names a flow.
func (k Key) named() ([]byte, error) {
	ae := encoder()
	ae.Nested(ctaTupleOrig, k.tuple(k.Source, k.Destination, true))
	b, err := ae.Encode()
	return append(header(familyOf(k.Source.Addr())), b...), err
}

// changed is a message that gives a known flow its present state.
func (f Flow) changed() ([]byte, error) {
	ae := encoder()
	ae.Nested(ctaTupleOrig, f.tuple(f.Source, f.Destination, true))
	f.describe(ae)
	b, err := ae.Encode()
	return append(header(familyOf(f.Source.Addr())), b...), err
}

// created is a message that makes the flow: the kernel wants the reply as if
// nothing were translated, and the translation beside it.
func (f Flow) created() ([]byte, error) {
	ae := encoder()
	ae.Nested(ctaTupleOrig, f.tuple(f.Source, f.Destination, true))
	ae.Nested(ctaTupleReply, f.tuple(f.Destination, f.Source, false))
	f.describe(ae)
	ae.Nested(ctaNATSrc, func(ae *netlink.AttributeEncoder) error {
		low, high := uint16(ctaNATv4MinIP), uint16(ctaNATv4MaxIP)
		if f.NAT.Addr().Is6() {
			low, high = ctaNATv6MinIP, ctaNATv6MaxIP
		}
		ae.Bytes(low, f.NAT.Addr().AsSlice())
		ae.Bytes(high, f.NAT.Addr().AsSlice())
		ae.Nested(ctaNATProto, func(ae *netlink.AttributeEncoder) error {
			ae.Uint16(ctaNATPortMin, f.NAT.Port())
			ae.Uint16(ctaNATPortMax, f.NAT.Port())
			return nil
		})
		return nil
	})
	b, err := ae.Encode()
	return append(header(familyOf(f.Source.Addr())), b...), err
}

// describe writes what is not the flow's name. Where the windows stand is not
// known here, so the kernel is told to be liberal about them.
func (f Flow) describe(ae *netlink.AttributeEncoder) {
	status := uint32(statusConfirm)
	if f.Replied {
		status |= statusReplied
	}
	if f.Assured {
		status |= statusAssured
	}
	ae.Uint32(ctaStatus, status)
	ae.Uint32(ctaTimeout, f.Timeout)
	if f.Proto != protoTCP {
		return
	}
	ae.Nested(ctaProtoInfo, func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctaProtoInfoTCP, func(ae *netlink.AttributeEncoder) error {
			ae.Uint8(ctaTCPState, f.State)
			ae.Uint8(ctaTCPScaleOrig, f.Scales[0])
			ae.Uint8(ctaTCPScaleReply, f.Scales[1])
			for i, attribute := range []uint16{ctaTCPFlagsOrig, ctaTCPFlagsReply} {
				flags := f.Flags[i]&tcpFlagsCopied | tcpBeLiberal
				ae.Bytes(attribute, []byte{flags, flags})
			}
			return nil
		})
		return nil
	})
}

// tuple writes one direction; request says that it is the client's.
func (k Key) tuple(src, dst netip.AddrPort, request bool) func(*netlink.AttributeEncoder) error {
	return func(ae *netlink.AttributeEncoder) error {
		from, to := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
		if src.Addr().Is6() {
			from, to = ctaIPv6Src, ctaIPv6Dst
		}
		ae.Nested(ctaTupleIP, func(ae *netlink.AttributeEncoder) error {
			ae.Bytes(from, src.Addr().AsSlice())
			ae.Bytes(to, dst.Addr().AsSlice())
			return nil
		})
		ae.Nested(ctaTupleProto, func(ae *netlink.AttributeEncoder) error {
			k.proto(ae, src, dst, request)
			return nil
		})
		return nil
	}
}

func (k Key) proto(ae *netlink.AttributeEncoder, src, dst netip.AddrPort, request bool) {
	ae.Uint8(ctaProtoNum, k.Proto)
	echo, ok := echoOf(k.Proto)
	if !ok {
		ae.Uint16(ctaSourcePort, src.Port())
		ae.Uint16(ctaTargetPort, dst.Port())
		return
	}
	kind := echo.reply
	if request {
		kind = echo.request
	}
	ae.Uint16(echo.id, k.Source.Port())
	ae.Uint8(echo.kind, kind)
	ae.Uint8(echo.code, 0)
}
