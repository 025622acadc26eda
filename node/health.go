package node

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/conntrack"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// problems are the sentences behind a degraded health: what is wrong and what
// to do about it. Obstacles are what the host's own self-test found.
func (n *Node) problems(r agent.Report, obstacles []string, certLeft time.Duration) []string {
	var all []string
	if !r.Heard {
		all = append(all, n.noArbiter(r.Woke))
	} else {
		all = append(all, thin(n.members.all())...)
		if n.lostLog() {
			all = append(all, "the log of this voter is gone: look what removed "+n.dir.Path(datadir.RaftDir)+"; it becomes a voter anew by itself")
		}
	}
	if r.CutOff {
		all = append(all, "this node hears no arbiter, and none of the nodes that it probes, so it holds no inside address and sends its clients to other nodes: "+
			"start those that are down; if none is, look at this host's links, and at firewalls between it and the other nodes")
	}
	for _, address := range r.Rivals {
		all = append(all, fmt.Sprintf("another host on the inside network, which is no member, answers for the inside address %v of this one: "+
			"find it by the link address that `ip neigh show %v` gives on a third host", address, address))
	}
	if r.Path == probe.PathBroken {
		all = append(all, n.forward.stack.blocked(n.others(), len(obstacles) > 0))
	}
	all = append(all, obstacles...)
	all = append(all, n.unsound(r, all)...)
	all = append(all, n.unheard(r)...)
	all = append(all, n.wrongClocks(r.Heard)...)
	all = append(all, n.failingDisks(r.Heard)...)
	all = append(all, n.lackingNodes(r.Heard)...)
	all = append(all, fullTable(conntrack.Table())...)
	if certLeft <= 0 {
		all = append(all, "this node's certificate has expired; it is renewed as soon as an arbiter answers")
	}
	return all
}

// unsound is what this node and others say of themselves. What was said already
// is not said again.
func (n *Node) unsound(r agent.Report, said []string) (all []string) {
	for _, fault := range r.Faults {
		if !slices.Contains(said, fault) {
			all = append(all, fault)
		}
	}
	switch {
	case r.Stays:
		all = append(all, "this node is egress although it does not forward as it should, for no other node is whole: see `meshcrypt status` there")
	case r.Is == protocol.Broken:
		all = append(all, "this node does not forward as it should, so others are egress in its place until it has for a minute")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Broken)) {
		all = append(all, fmt.Sprintf("%s says that it does not forward as it should (see `meshcrypt status` there): %s",
			name, strings.ReplaceAll(r.Broken[name], "this host", name)))
	}
	return all
}

// unheard names whose firewall to look at: a node that asks and does not answer
// hears nothing of this one. Without an arbiter nobody says who lives.
func (n *Node) unheard(r agent.Report) (all []string) {
	silent := r.Silent
	for _, u := range r.Unheard {
		if !r.Heard {
			break
		}
		silent = slices.DeleteFunc(silent, func(name string) bool { return name == u.Name })
		where := fmt.Sprintf("look for a firewall on %s, on this host and between (`nft list ruleset`)", u.Name)
		if u.Asks {
			where = fmt.Sprintf("its own probes arrive here, so look for a firewall on %s (`nft list ruleset` there)", u.Name)
		}
		all = append(all, fmt.Sprintf("%s does not answer probes on UDP port %d of the inside network, while its stream to the arbiter lives: %s, "+
			"and allow that port between the nodes", u.Name, insidePort(n.self), where))
	}
	if len(silent) > 0 {
		all = append(all, "no answer over the inside network from "+strings.Join(silent, ", "))
	}
	return all
}

// obstacles are the faults of this host, and what its stack finds in the way when
// it is asked now.
func (n *Node) obstacles() []string {
	if n.forward.stack == nil {
		return nil // the twins of a test have no stack
	}
	// An interface that is down comes before the routes that went with it.
	all := slices.Clone(n.forward.stack.Faults())
	for _, obstacle := range n.forward.stack.obstacles(n.others()) {
		if !slices.Contains(all, obstacle) {
			all = append(all, obstacle)
		}
	}
	return all
}

// putBack counts what other software removed from this host and is back.
func (n *Node) putBack() map[string]uint64 {
	if n.forward.stack == nil {
		return nil
	}
	return n.forward.stack.PutBack()
}

// others are the inside addresses of all other nodes.
func (n *Node) others() (all []netip.Addr) {
	for _, row := range n.members.all() {
		if row.ID != n.trust.Key.ID() && row.Inside.IsValid() {
			all = append(all, row.Inside)
		}
	}
	return all
}

// voters are the names of those that vote, as the arbiter told last.
func (n *Node) voters() (names []string) {
	for _, row := range n.members.all() {
		if row.Voter {
			names = append(names, row.Name)
		}
	}
	return names
}

// noArbiter names the way out of a mesh that lost its only voter, or most of them. A process
// that woke just now knows too little to say that.
func (n *Node) noArbiter(woke bool) string {
	names := n.voters()
	voters := len(names)
	switch {
	case n.lostLog() && voters == 1:
		return "the log of this node, which was the only voter, is gone: look what removed " + n.dir.Path(datadir.RaftDir) + ". If it cannot be had back: on a host that keeps " +
			"a copy (a standby), meshcrypt operator recover; else here, with the daemon stopped, meshcrypt operator snapshot restore FILE --make-this-node-the-only-voter; sessions run headless"
	case n.lostLog():
		return "the log of this voter is gone (" + n.dir.Path(datadir.RaftDir) + "), and the other voters elect nobody: start them; this one becomes a voter anew then. " +
			"If they will not come back: meshcrypt operator recover on one that has its log"
	case n.diskSays() != "":
		return "no arbiter is heard, and while its disk fails this node neither leads nor obeys one of a term that it cannot note; " +
			"sessions run headless, new logins wait"
	case woke:
		return "this daemon stood still until a moment ago (a pause, a sleep, or no CPU) and looks for the arbiter; look again in some seconds"
	case n.votes() && n.store.Load().GivenUp() && n.store.Load().Spoilt() != "":
		return "what the disk of this voter has left of its log is of before the mesh was recovered or restored, so it decides nothing by that, and votes again when it is filled: " +
			"start the voters that are down, and look at the links to them. Only if no other host has what came since: meshcrypt operator recover here, which undoes that"
	case n.votes() && n.store.Load().GivenUp():
		return "the mesh was recovered on another host, without this node, whose log is of before: it decides nothing by that, and votes again by itself when the recovered " +
			"arbiter hears it; look at the links to the other hosts, and do not recover here as well"
	case n.votes() && n.store.Load().Behind():
		return "this voter's log lacks changes that others know of" + n.wordOf(n.clocks.passed()) + ", so it elects nobody who lacks them too; " +
			"start the voters that are down. If they will not come back: meshcrypt operator recover on one of the voters, which undoes those changes"
	case voters == 1 && n.votes():
		return "this node is the only voter and does not serve yet: see the log of its daemon (journalctl -u meshcrypt); sessions run headless"
	case voters == 1 && n.store.Load() != nil:
		return "the only voter does not answer; sessions run headless. If it will not come back: meshcrypt operator recover"
	}
	if name := n.leaderByLog(); name != "" {
		return name + " leads, and this node does not hear it as the arbiter; sessions run headless here, new logins wait"
	}
	const waits = "no arbiter answers; sessions run headless, new logins wait"
	if voters < 2 {
		return waits
	}
	return fmt.Sprintf(waits+"; it takes %d of the %d voters (%s): start those that are down, and look at the links to them. Only if so many are lost for good: "+
		"meshcrypt operator recover on one that is left", voters/2+1, voters, strings.Join(names, ", "))
}

// leaderByLog is another node that leads as far as this one's replica knows: the mesh has what
// it takes, so nothing has to be recovered.
func (n *Node) leaderByLog() string {
	store := n.store.Load()
	if store == nil {
		return ""
	}
	leader, known := store.Leader()
	if !known || leader == n.trust.Key.ID() {
		return ""
	}
	return cmp.Or(n.members.find(leader).Name, leader.Short())
}

// wordOf says who signed what voters are held to, and what to do if it lied: it may vote,
// and no other node can prove it wrong.
func (n *Node) wordOf(k protocol.Known) string {
	by := n.members.find(k.By.ID())
	if by.Index == 0 || by.ID == n.trust.Key.ID() {
		return ""
	}
	return fmt.Sprintf(" (up to %d.%d.%d by the word of %s; if it never was the arbiter it lies: stop it, and restart the daemons of the voters)",
		k.Incarnation, k.Term, k.Index, by.Name)
}

// clearInside is for a mesh whose arbiter is of a build that does not know that
// strangers reach a member's inside interface.
func (n *Node) clearInside() string {
	return "what nodes hand on to this host is in clear, and strangers reach its inside interface " + n.self.InsideIf +
		": upgrade the arbiter's host, or give this one an interface of its own inside (--inside-if)"
}

// counts sums what the packet path delivered and dropped, by name.
func (f *forwarding) counts(rejects map[string]uint64) (delivered, dropped map[string]uint64) {
	delivered, dropped = make(map[string]uint64), make(map[string]uint64)
	strangers := f.outer[len(f.outer)-1].Lost() // is in the sum below
	engine, forwarder := f.engine.Stats(), f.gateway.Stats()
	for p, count := range engine.Delivered {
		delivered[dataplane.Port(p).String()] = count
	}
	delivered["gateway"] = forwarder.Forwarded + forwarder.Answered
	for _, reason := range dataplane.Reasons() {
		addCount(dropped, reason.String(), engine.Dropped[reason])
	}
	for _, reason := range gateway.Reasons() {
		addCount(dropped, "gateway-"+reason.String(), forwarder.Dropped[reason])
	}
	for reason, count := range rejects {
		addCount(dropped, reason, count)
	}
	if f.stack != nil {
		for reason, count := range f.stack.dropped() {
			addCount(dropped, reason, count)
		}
	}
	addCount(dropped, "gateway-stream-refused", forwarder.StreamsRefused)
	addCount(dropped, "strangers", strangers)
	addCount(dropped, "kernel-queue", engine.Lost+forwarder.Lost-strangers)
	return delivered, dropped
}

func addCount(into map[string]uint64, name string, count uint64) {
	if count > 0 {
		into[name] += count
	}
}

// flows is how many flows end in this process.
func (f *forwarding) flows() int {
	if f.stack == nil {
		return 0
	}
	return f.stack.flows()
}
