package registry

import (
	"crypto/sha256"
	"net/netip"
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
	ses.hashes(nil, ses.Identity, ses.Hello)
	ses.Leases, ses.Holders = slices.Clone(ses.Leases), slices.Clone(ses.Holders)
	ses.Slices, ses.Retiring = slices.Clone(ses.Slices), slices.Clone(ses.Retiring)
	for _, epochs := range [][]Slice{ses.Slices, ses.Retiring} {
		for i := range epochs {
			epochs[i].State = one(epochs[i].State)
		}
	}
}

// hashes keeps the session's two in one piece of memory, in some room if they fit.
func (ses *Session) hashes(room, who, hello []byte) {
	both := append(append(slices.Grow(room, len(who)+len(hello)), who...), hello...)
	ses.Identity, ses.Hello = both[:len(who):len(who)], both[len(who):]
}

// usual is how many slices, holders and addresses almost every session has, or fewer.
const usual = 2

// body is a session with room for what almost every one has. Go moves nothing, and what a
// crowd's logins leave behind is small: small things that stay among it keep the memory of it
// all. One large piece lies among its like.
type body struct {
	Session
	both    [2 * sha256.Size]byte
	slices  [usual]Slice
	holders [usual]Holder
	leases  [usual]netip.Addr
}

// into copies a list into some room, if it fits.
func into[T any](room, all []T) []T {
	if all == nil {
		return nil // as a snapshot brings it back
	}
	return append(slices.Grow(room, len(all)), all...)
}

// pack is that for a lease.
func (l *Lease) pack() { l.Client, l.Holders = one(l.Client), slices.Clone(l.Holders) }
