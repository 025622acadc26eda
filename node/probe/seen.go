package probe

// TokenLen is the length of what a question of Seen holds, in bytes. Builds before
// it was unpredictable put an address of 16 bytes and a port of 2 there; either end
// sends back what it was sent, so both kinds understand each other.
const TokenLen = 18

// Token is what a question holds: unpredictable data (RFC 9000, 8.2.1), that only
// somebody who got the question can send back.
type Token [TokenLen]byte

// lenSeen is the kind and the token.
const lenSeen = 1 + TokenLen

// Seen makes a question: whoever sends its echo is where the question went.
func Seen(t Token) []byte {
	return append(append(make([]byte, 0, lenSeen), KindSeen), t[:]...)
}

// EchoSeen makes the answer; ok is false when b is no question.
func EchoSeen(b []byte) (echo []byte, ok bool) {
	if len(b) != lenSeen || b[0] != KindSeen {
		return nil, false
	}
	echo = append([]byte(nil), b...)
	echo[0] = KindSeenEcho
	return echo, true
}

// ParseSeenEcho reads the token of an answer; ok is false when it is none.
func ParseSeenEcho(b []byte) (t Token, ok bool) {
	if len(b) != lenSeen || b[0] != KindSeenEcho {
		return t, false
	}
	return Token(b[1:]), true
}
