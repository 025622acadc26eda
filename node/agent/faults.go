package agent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// What arrives at this host for others is forwarded, or it is not: the host's
// own list of faults says so, the path test, and what arrives from other nodes.
// After BrokenAfter this node says it to the arbiter, which moves its parts
// elsewhere, and to the other nodes, of which its second acts when there is no
// arbiter.

// superviseSoundness judges this node and tells who has to know.
func (a *Agent) superviseSoundness(now time.Duration) {
	ofHost := a.config.Faults()
	a.ailing = len(ofHost) > 0
	all := slices.Clone(ofHost)
	if a.probes.pathSent > PathSuspect {
		all = append(all, "tests of this host's path from the TUN to the inside network do not come out")
	}
	// Of two hosts that do not hear each other, neither can tell whose fault it is.
	if from := a.deafTo(now); from != "" && a.peersUp() > 1 {
		all = append(all, from)
	}
	was := a.sound.is
	changed := a.sound.judge(now, all)
	a.probes.lost.Store(a.cutOff() || a.footing.is == lost)
	if changed {
		a.changes.mesh = true
		a.logSoundness(was)
	}
	if changed || a.sound.is == protocol.Broken && now-a.toldAt >= TellFaults {
		a.tellCondition(now)
	}
}

// cutOff reports whether nothing that is opened here goes on: this node does not
// forward, and of all that it probes, egresses among them, none answers that it could
// hand on to.
func (a *Agent) cutOff() bool {
	if a.sound.is != protocol.Broken {
		return false
	}
	for _, p := range a.probes.peers {
		if p.answers() {
			return false
		}
	}
	return len(a.probes.peers) > 0
}

func (a *Agent) logSoundness(was protocol.Soundness) {
	switch {
	case a.sound.is == protocol.Broken:
		a.config.Log.Warn("this node does not forward as it should; others take its parts", "faults", a.sound.faults)
	case was == protocol.Broken:
		a.config.Log.Info("this node forwards again", "trusted_in", WholeAfter)
	}
}

func (a *Agent) tellCondition(now time.Duration) {
	a.toldAt = now
	c := a.sound.condition()
	if c == nil {
		c = &protocol.Condition{Is: protocol.Whole}
	}
	a.say(&protocol.Node{Condition: c})
}

// says is what another node hears of this one in probes and answers. One that does
// not forward hears only of its own parts that they are taken, for it lets go of them
// then: of another's it would let go of what nobody has taken. The others hear of all.
func (a *Agent) says(to protocol.NodeRow) (s probe.Says) {
	if a.ailing {
		s |= probe.SaysAiling
	}
	if a.sound.is == protocol.Broken {
		s |= probe.SaysAiling | probe.SaysBroken
	}
	for _, p := range a.view.parts {
		if p.taken && p.relieved && (p.row.Egress == to.ID || !a.saysBroken(to)) {
			s |= probe.SaysTaken
		}
	}
	return s
}

// withoutArbiter reports whether no arbiter's word is to be waited for.
func (a *Agent) withoutArbiter(now time.Duration) bool {
	return a.stream == nil || !a.stream.fenced || now-a.wordAt > WordLate
}

// deafTo says that nothing arrives on the inside network: neither answers nor
// questions of nodes that the arbiter hears. Who hears one of them is not deaf.
func (a *Agent) deafTo(now time.Duration) string {
	if a.withoutArbiter(now) {
		return "" // they may all have died
	}
	var name string
	if at := a.probes.askedAt; at != 0 && now-at <= DeafAfter {
		return "" // a node asks that this one does not ask
	}
	for index, p := range a.probes.peers {
		row := a.view.nodes[index]
		if !row.Up {
			continue
		}
		wait := DeafAfter
		if !p.heard && p.askedAt == 0 {
			wait = DeafFirst
		}
		if now-max(p.heardAt, p.askedAt, p.upAt) <= wait {
			return ""
		}
		name = max(name, row.Name)
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf("nothing arrives here on UDP port %d of the inside network, not even from %s, which the arbiter hears: "+
		"allow that port between the nodes in this host's firewall (see `nft list ruleset`), and look at the link", a.config.InsidePort, name)
}

// peersUp is how many of the nodes that this one probes the arbiter hears.
func (a *Agent) peersUp() (n int) {
	for index := range a.probes.peers {
		if a.view.nodes[index].Up {
			n++
		}
	}
	return n
}

// Unheard is a node that the arbiter hears and this one does not.
type Unheard struct {
	Name string
	Asks bool // its own questions arrive here
}

// unheard are those; it says whose firewall to look at. A node that the arbiter hears
// only lately may have begun just now: it answers once it was told who asks.
func (a *Agent) unheard(now time.Duration) (all []Unheard) {
	for index, p := range a.probes.peers {
		row := a.view.nodes[index]
		never := !p.heard && now-p.heardAt > DeafFirst
		if row.Up && p.upAt != 0 && now-p.upAt > DeafFirst && (p.silent || never) {
			all = append(all, Unheard{row.Name, p.asksStill(now)})
		}
	}
	slices.SortFunc(all, func(x, y Unheard) int { return strings.Compare(x.Name, y.Name) })
	return all
}
