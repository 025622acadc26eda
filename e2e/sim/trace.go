package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// trace is what the code under test decided, in its order. What is drawn at random, like
// the ids of sessions, has numbers in it.
type trace struct {
	world    *World
	lines    []string
	sessions map[registry.SessionID]int
}

func newTrace(w *World) *trace {
	return &trace{world: w, sessions: make(map[registry.SessionID]int)}
}

// note writes a line down; the caller may be anybody.
func (t *trace) note(who, format string, args ...any) {
	line, at := fmt.Sprintf(format, args...), t.world.now()
	t.world.leave("~"+who, func() { t.write(at, who, line) })
}

// write is the driver's.
func (t *trace) write(at time.Duration, who, line string) {
	t.lines = append(t.lines, fmt.Sprintf("%s %-4s %s", stamp(at), who, line))
}

// stamp is a time that sorts and aligns.
func stamp(d time.Duration) string { return fmt.Sprintf("%02d.%09d", d/time.Second, d%time.Second) }

// hash is the whole trace in short.
func (t *trace) hash() string {
	sum := sha256.Sum256([]byte(strings.Join(t.lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

// session is a session's number.
func (t *trace) session(id registry.SessionID) string {
	if t.sessions[id] == 0 {
		t.sessions[id] = len(t.sessions) + 1
	}
	return fmt.Sprintf("s%d", t.sessions[id])
}

func (t *trace) node(id identity.NodeID) string {
	if n := t.world.memberOf(id); n != nil {
		return n.name
	}
	return "nobody"
}

// command is a command in words.
func (t *trace) command(c registry.Command) string {
	switch {
	case c.OpenSession != nil:
		return fmt.Sprintf("open session of %s%s", c.OpenSession.Session.Client, t.slices(c.OpenSession.Slices...))
	case c.GrantSlice != nil:
		return fmt.Sprintf("grant %s%s", t.session(c.GrantSlice.Session), t.slices(c.GrantSlice.Slice))
	case c.MarkSlice != nil:
		return "mark" + t.marks(*c.MarkSlice)
	case c.MarkSlices != nil:
		return "mark" + t.marks(c.MarkSlices.Marks...)
	case c.EndSession != nil:
		return fmt.Sprintf("end %s: %s", t.session(c.EndSession.Session), c.EndSession.Reason)
	case c.ResumeKey != nil:
		return "resume " + t.session(c.ResumeKey.Session)
	case c.WeighSlices != nil:
		return fmt.Sprintf("weigh %s %v", t.session(c.WeighSlices.Session), c.WeighSlices.Weights)
	case c.Acknowledge != nil:
		return fmt.Sprintf("%s runs nothing of %d sessions", t.node(c.Acknowledge.Agent), len(c.Acknowledge.Sessions))
	}
	return t.ofMesh(c)
}

// ofMesh is a command that is of no session.
func (t *trace) ofMesh(c registry.Command) string {
	switch {
	case c.MovePart != nil:
		return fmt.Sprintf("move %v to %s, then %s (epoch %d)", c.MovePart.Prefix, t.node(c.MovePart.Egress), t.node(c.MovePart.Second), c.MovePart.Epoch)
	case c.SetRoles != nil:
		return fmt.Sprintf("%s is %v", t.node(c.SetRoles.ID), c.SetRoles.Is.Names())
	case c.UpdateNode != nil:
		return "update " + t.node(c.UpdateNode.ID)
	case c.AdvanceTick != nil:
		return fmt.Sprintf("time %d", c.AdvanceTick.Elapsed)
	case c.CountVoters != nil:
		return fmt.Sprintf("%d vote", c.CountVoters.Voters)
	case c.PutSecrets != nil:
		return fmt.Sprintf("secrets %d", c.PutSecrets.Generation)
	case c.JoinNode != nil:
		return "join " + c.JoinNode.Node.Name
	case c.PutClient != nil:
		return "client " + c.PutClient.Client.Name
	case c.RevokeClient != nil:
		return "revoke " + c.RevokeClient.Name
	case c.Found != nil:
		return "found"
	}
	return "another command"
}

func (t *trace) slices(all ...registry.Slice) (words string) {
	for _, s := range all {
		words += fmt.Sprintf(", %d.%d at %s", s.Number, s.Epoch, t.node(s.Agent))
	}
	return words
}

func (t *trace) marks(all ...registry.MarkSlice) (words string) {
	for _, m := range all {
		words += fmt.Sprintf(", %s %d.%d %s", t.session(m.Session), m.Number, m.Epoch, m.State)
	}
	return words
}

// sorted are a set's connections in their order.
func sorted(set map[*conn]bool) (all []*conn) {
	for c := range set {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *conn) int { return cmp.Compare(a.key, b.key) })
	return all
}
