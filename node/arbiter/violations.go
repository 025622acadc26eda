package arbiter

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Violation is what one node dropped for one reason that should not occur.
type Violation struct {
	Reason string
	Source netip.Addr // the last one
	Count  uint64     // at least: what the node has not told yet is missing
	At     time.Duration
	logged time.Duration
}

// flagged keeps a node's violation, and logs it now and then: whoever attacks
// decides how often.
func (a *Arbiter) flagged(node identity.NodeID, v *protocol.Violation) {
	now := a.config.Now()
	all := a.violations[node]
	i := slices.IndexFunc(all, func(kept Violation) bool { return kept.Reason == v.Reason })
	if i < 0 {
		if len(a.violations) > int(identity.MaxIndex) || len(all) >= MaxViolations || len(v.Reason) > MaxReason {
			return
		}
		i = len(all)
		all = append(all, Violation{Reason: strings.Clone(v.Reason), logged: now - LogViolations})
		a.violations[node] = all
	}
	kept := &all[i]
	kept.Source, kept.At = v.Source, now
	kept.Count += max(v.Count, 1)
	if now-kept.logged < LogViolations {
		return
	}
	kept.logged = now
	a.config.Log.Warn("violation", "node", a.nodeName(node), "reason", kept.Reason, "source", kept.Source, "count", kept.Count)
}
