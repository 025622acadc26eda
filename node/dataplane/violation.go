package dataplane

import "github.com/meshcrypt/meshcrypt/mesh/link"

// violations reports packets that should not exist to the owner, rarely. It
// is owned by its worker.
type violations struct {
	tell  func(Reason, uint64, link.Path)
	last  [reasonCount]int64
	count [reasonCount]uint64 // since the last report
}

func (v *violations) raise(r Reason, path link.Path, now int64) {
	if v.tell == nil || !violates(r) {
		return
	}
	v.count[r]++
	if last := v.last[r]; last != 0 && now-last < int64(ViolationInterval) {
		return
	}
	v.last[r] = max(now, 1)
	v.tell(r, v.count[r], path)
	v.count[r] = 0
}

// violates tells bad intent, or a broken peer, from bad luck.
func violates(r Reason) bool {
	switch r {
	case DropAuth, DropPadding, DropNextHeader, DropSource, DropDestination, DropLoop,
		DropPeer, DropHops, DropPart, DropNotAllowed:
		return true
	}
	return false
}
