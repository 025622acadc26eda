// Package probe is the small language of liveness: control messages inside a
// client's SA (ESP dummies, RFC 4303 2.6) and authenticated datagrams between
// nodes. It owns their codecs and the round-trip estimator. It sends nothing,
// keeps no table of peers, and condemns nobody.
package probe

import (
	"encoding/binary"
	"math"
	"time"
)

// Kinds of control message inside an SA; the first byte of a dummy's payload.
const (
	KindProbe      = 1
	KindReply      = 2
	KindPrekeyPart = 3
	KindAcceptPart = 4
	KindConfirm    = 5
	KindVerdict    = 6
	// KindPadded and KindPaddedReply measure the path's MTU, see Padded.
	KindPadded      = 8
	KindPaddedReply = 9
	// KindUsed is the first word under keys that a rekey of two nodes gave.
	KindUsed = 10
	// KindSeen and KindSeenEcho find out whether the peer is at an address, see Seen.
	KindSeen     = 16
	KindSeenEcho = 17
)

// Verdict is what an agent says of its own plaintext path.
type Verdict byte

// The verdicts.
const (
	PathUnknown Verdict = iota // not tested: nobody to test with
	PathGood
	PathBroken // a test packet did not come out of the host
	// PathLost is that nothing opened here goes on: this host does not forward, and
	// hears no node to hand on to. Builds that do not know it take no notice of the reply.
	PathLost
)

// String names the verdict as operators read it.
func (v Verdict) String() string {
	switch v {
	case PathGood:
		return "ok"
	case PathBroken:
		return "broken"
	case PathLost:
		return "lost"
	default:
		return "untested"
	}
}

// lenProbe is kind 1, sequence 4, sender's clock 8; a reply adds the verdict 1
// and the load 1.
const (
	lenProbe = 1 + 4 + 8
	lenReply = lenProbe + 2
)

// Load is a node's load in 255ths of its capacity.
type Load uint8

// LoadOf turns a share, 0..1, into a Load; what is no number counts as full.
func LoadOf(share float64) Load {
	if math.IsNaN(share) {
		return 255
	}
	return Load(min(max(share, 0), 1) * 255)
}

// Share is the load as 0..1.
func (l Load) Share() float64 { return float64(l) / 255 }

// Ask makes a probe: the sender's clock comes back in the reply.
func Ask(sequence uint32, now time.Duration) []byte {
	b := make([]byte, lenProbe)
	b[0] = KindProbe
	binary.BigEndian.PutUint32(b[1:], sequence)
	binary.BigEndian.PutUint64(b[5:], uint64(now))
	return b
}

// Answer makes the reply to a probe; ok is false when it is none.
func Answer(probe []byte, verdict Verdict, load Load) (reply []byte, ok bool) {
	if len(probe) != lenProbe || probe[0] != KindProbe {
		return nil, false
	}
	reply = append(append(make([]byte, 0, lenReply), probe...), byte(verdict), byte(load))
	reply[0] = KindReply
	return reply, true
}

// Reply is what came back.
type Reply struct {
	Sequence uint32
	Sent     time.Duration // the asker's clock when it asked
	Verdict  Verdict
	Load     Load
}

// ParseReply reads a reply; ok is false when it is none.
func ParseReply(b []byte) (r Reply, ok bool) {
	if len(b) != lenReply || b[0] != KindReply || b[lenProbe] > byte(PathLost) {
		return r, false
	}
	return replyOf(b), true
}

// replyOf reads what every answer begins with.
func replyOf(b []byte) Reply {
	return Reply{
		Sequence: binary.BigEndian.Uint32(b[1:]),
		Sent:     time.Duration(binary.BigEndian.Uint64(b[5:])),
		Verdict:  Verdict(b[lenProbe]),
		Load:     Load(b[lenProbe+1]),
	}
}

// VerdictBody is the body of a KindVerdict message: a client says that one of
// its slices is silent.
func VerdictBody(number uint8, epoch uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{number}, epoch)
}

// ParseVerdict reads a VerdictBody.
func ParseVerdict(body []byte) (number uint8, epoch uint32, ok bool) {
	if len(body) != 5 {
		return 0, 0, false
	}
	return body[0], binary.BigEndian.Uint32(body[1:]), true
}
