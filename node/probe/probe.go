// Package probe is the small language of liveness: control messages inside a
// client's SA (ESP dummies, RFC 4303 2.6) and authenticated datagrams between
// nodes. It owns their codecs and the round-trip estimator. It sends nothing,
// keeps no table of peers, and condemns nobody.
package probe

import (
	"encoding/binary"
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
	KindPush       = 7
)

// Verdict is what an agent says of its own plaintext path.
type Verdict byte

// The verdicts.
const (
	PathUnknown Verdict = iota // not tested: nobody to test with
	PathGood
	PathBroken // a test packet did not come out of the host
)

// String names the verdict as operators read it.
func (v Verdict) String() string {
	switch v {
	case PathGood:
		return "ok"
	case PathBroken:
		return "broken"
	default:
		return "untested"
	}
}

// lenProbe is kind 1, sequence 4, sender's clock 8; a reply adds the verdict.
const lenProbe = 1 + 4 + 8

// Ask makes a probe: the sender's clock comes back in the reply.
func Ask(sequence uint32, now time.Duration) []byte {
	b := make([]byte, lenProbe)
	b[0] = KindProbe
	binary.BigEndian.PutUint32(b[1:], sequence)
	binary.BigEndian.PutUint64(b[5:], uint64(now))
	return b
}

// Answer makes the reply to a probe; ok is false when it is none.
func Answer(probe []byte, verdict Verdict) (reply []byte, ok bool) {
	if len(probe) != lenProbe || probe[0] != KindProbe {
		return nil, false
	}
	reply = append(append(make([]byte, 0, lenProbe+1), probe...), byte(verdict))
	reply[0] = KindReply
	return reply, true
}

// Reply is what came back.
type Reply struct {
	Sequence uint32
	Sent     time.Duration // the asker's clock when it asked
	Verdict  Verdict
}

// ParseReply reads a reply; ok is false when it is none.
func ParseReply(b []byte) (r Reply, ok bool) {
	if len(b) != lenProbe+1 || b[0] != KindReply || b[lenProbe] > byte(PathBroken) {
		return r, false
	}
	return Reply{
		Sequence: binary.BigEndian.Uint32(b[1:]),
		Sent:     time.Duration(binary.BigEndian.Uint64(b[5:])),
		Verdict:  Verdict(b[lenProbe]),
	}, true
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
