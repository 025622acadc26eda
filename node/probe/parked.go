package probe

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Kinds of a client that is parked, which has no connection to the arbiter: see
// node/DESIGN.md.
const (
	// KindParked is a probe that says so, and KindWord the answer to it.
	KindParked = 11
	KindWord   = 12
	// KindCall asks the client to come to the arbiter; it has no body.
	KindCall = 13
	// KindLeaving says that the gateway at some addresses is to stop.
	KindLeaving = 14
)

// MaxLeaving is how many addresses a gateway has: one of each family.
const MaxLeaving = 2

// Mark stands for what an arbiter told a client that it let go. 0 is none.
type Mark uint64

// lenParked is a probe and the mark 8, lenWord a reply and the word's age 2.
const (
	lenParked = lenProbe + 8
	lenWord   = lenReply + 2
)

// noWord is an age that no word has.
const noWord = 1<<16 - 1

// NoWord is the age of no word, or of one too old to count.
const NoWord = noWord * time.Second

// AskParked is Ask by a client that is parked under a mark.
func AskParked(sequence uint32, now time.Duration, mark Mark) []byte {
	b := append(make([]byte, 0, lenParked), Ask(sequence, now)...)
	b[0] = KindParked
	return binary.BigEndian.AppendUint64(b, uint64(mark))
}

// AnswerParked makes the answer to such a probe; ok is false when it is none. The age is
// that of the last word of an arbiter, rounded up.
func AnswerParked(asked []byte, verdict Verdict, load Load, age time.Duration) (reply []byte, mark Mark, ok bool) {
	if len(asked) != lenParked || asked[0] != KindParked {
		return nil, 0, false
	}
	mark = Mark(binary.BigEndian.Uint64(asked[lenProbe:]))
	if mark == 0 {
		return nil, 0, false
	}
	reply = append(append(make([]byte, 0, lenWord), asked[:lenProbe]...), byte(verdict), byte(load))
	reply[0] = KindWord
	seconds := (max(age, 0) + time.Second - 1) / time.Second
	return binary.BigEndian.AppendUint16(reply, uint16(min(seconds, noWord))), mark, true
}

// ParseWord reads the answer, and how old the agent's word of an arbiter is; ok is false
// when it is none.
func ParseWord(b []byte) (r Reply, age time.Duration, ok bool) {
	if len(b) != lenWord || b[0] != KindWord || b[lenProbe] > byte(PathLost) {
		return r, 0, false
	}
	return replyOf(b), time.Duration(binary.BigEndian.Uint16(b[lenReply:])) * time.Second, true
}

// lenAt is an address and a port.
const lenAt = 16 + 2

// Leaving says that the gateway at these addresses is to stop.
func Leaving(at []netip.AddrPort) []byte {
	b := append(make([]byte, 0, 1+MaxLeaving*lenAt), KindLeaving)
	for _, one := range at[:min(len(at), MaxLeaving)] {
		addr := one.Addr().As16()
		b = append(b, addr[:]...)
		b = binary.BigEndian.AppendUint16(b, one.Port())
	}
	return b
}

// ParseLeaving reads that; ok is false when it is nothing of the kind.
func ParseLeaving(b []byte) (at []netip.AddrPort, ok bool) {
	if len(b) == 0 || b[0] != KindLeaving {
		return nil, false
	}
	b = b[1:]
	if len(b) == 0 || len(b)%lenAt != 0 || len(b) > MaxLeaving*lenAt {
		return nil, false
	}
	for ; len(b) > 0; b = b[lenAt:] {
		addr := netip.AddrFrom16([16]byte(b[:16])).Unmap()
		at = append(at, netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[16:lenAt])))
	}
	return at, true
}
