package registry

import (
	"slices"
	"unique"
)

// There may be 100,000 sessions, and they say the same few words. What is read from JSON
// has copies of its own, and lists with room for more than they hold.

// one is the copy of a word that all share.
func one[T ~string](word T) T { return unique.Make(word).Value() }

// pack makes a session that nobody reads yet share its words, and keep no room.
func (ses *Session) pack() {
	ses.Client, ses.Reason, ses.State = one(ses.Client), one(ses.Reason), one(ses.State)
	ses.Mode, ses.Shares, ses.EgressKind = one(ses.Mode), one(ses.Shares), one(ses.EgressKind)
	ses.hashes(ses.Identity, ses.Hello)
	ses.Leases, ses.Holders = slices.Clone(ses.Leases), slices.Clone(ses.Holders)
	ses.Slices, ses.Retiring = slices.Clone(ses.Slices), slices.Clone(ses.Retiring)
	for _, epochs := range [][]Slice{ses.Slices, ses.Retiring} {
		for i := range epochs {
			epochs[i].State = one(epochs[i].State)
		}
	}
}

// hashes keeps the session's two in one piece of memory.
func (ses *Session) hashes(who, hello []byte) {
	both := append(append(make([]byte, 0, len(who)+len(hello)), who...), hello...)
	ses.Identity, ses.Hello = both[:len(who):len(who)], both[len(who):]
}

// pack is that for a lease.
func (l *Lease) pack() { l.Client, l.Holders = one(l.Client), slices.Clone(l.Holders) }
