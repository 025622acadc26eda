package session

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// world is a mesh around one arbitrator: the real registry, and agents and
// clients that answer at once unless told otherwise. It carries out what the
// arbitrator asks and checks each action against the rules of its contract.
type world struct {
	state   *registry.State
	arb     *Arbitrator
	random  counter
	now     time.Duration
	index   uint64
	term    uint64
	nodes   []*fakeNode
	clients []*fakeClient

	older   bool // a replica reads no commands of many marks
	unknown int  // so many next commits are without outcome
	lost    bool // and they are not committed either
	queue   []Event

	log   func(format string, args ...any)
	wrong []string
	acked map[string]bool   // slices acknowledged
	spent map[string]string // prekeys by boot → the slice they were granted for
}

// fakeNode is an agent. behave is "", "refuse" or "mute".
type fakeNode struct {
	name   string
	key    identity.PublicKey
	boot   int
	up     bool
	next   uint32
	behave string
}

func (n *fakeNode) id() identity.NodeID { return n.key.ID() }

func (n *fakeNode) bootID() (b identity.BootID) {
	b[0], b[1] = n.key[0], byte(n.boot)
	return b
}

// fakeClient is a client. dull: it brings no slice up.
type fakeClient struct {
	name     string
	asked    int
	request  registry.RequestID
	session  registry.SessionID
	attached bool
	dull     bool
	open     Open
	told     string // what it was told last
	mode     registry.Mode
	shares   registry.Shares
	device   registry.DeviceID // of a client that is tracked
}

// counter is randomness that a transcript can repeat.
type counter struct{ n uint64 }

func (c *counter) Read(p []byte) (int, error) {
	c.n++
	clear(p)
	binary.BigEndian.PutUint64(p, c.n)
	return len(p), nil
}

func newWorld(nodes int, policy registry.Policy, mbit uint32) *world {
	w := &world{state: registry.New(), term: 1, acked: map[string]bool{}, spent: map[string]string{}, log: func(string, ...any) {}}
	w.state.Feed = &registry.Feed{}
	pool := netip.MustParsePrefix("10.80.0.0/24")
	for i := range nodes {
		w.nodes = append(w.nodes, &fakeNode{name: fmt.Sprintf("n%d", i+1), key: identity.PublicKey{byte(i + 1), byte((i + 1) >> 8)}})
	}
	const all = registry.RoleVoter | registry.RoleGateway | registry.RoleAgent
	describe := func(i int) registry.Node {
		return registry.Node{
			Key: w.nodes[i].key, Name: w.nodes[i].name, May: all, Mbit: mbit,
			Inside: netip.AddrFrom4([4]byte{192, 0, 2 + byte((i+1)>>8), byte(i + 1)}),
		}
	}
	w.must(registry.Command{Found: &registry.Found{
		Cluster: registry.Cluster{
			ID: identity.ClusterID{1}, CA: []byte("ca"), Pool: []netip.Prefix{pool}, Egress: registry.EgressRouted,
		},
		Policy:  policy,
		Parts:   []registry.Part{{Prefix: pool}},
		Founder: describe(0),
		Secrets: map[string]registry.Sealed{"gossip": {Generation: 1, Box: []byte("box")}},
		Wraps:   map[string][]byte{"recovery": []byte("wrap"), w.nodes[0].id().String(): []byte("wrap")},
	}})
	w.must(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{
		ID: "t", Verify: []byte("v"), May: all, Uses: 4000, Expires: 1000}}})
	for i := 1; i < nodes; i++ {
		w.must(registry.Command{JoinNode: &registry.JoinNode{Token: "t", Node: describe(i)}})
	}
	w.newTerm(w.nodes[0])
	return w
}

// apply commits a command of somebody else.
func (w *world) apply(c registry.Command) registry.Result {
	if c.ID == (registry.CommandID{}) {
		binary.BigEndian.PutUint64(c.ID[8:], w.index+1)
	}
	w.index++
	return registry.Apply(w.state, w.index, w.term, c)
}

func (w *world) must(c registry.Command) {
	if err := w.apply(c).Err(); err != nil {
		panic(err)
	}
}

// newTerm puts a fresh arbitrator on a node; nobody has a stream to it yet.
func (w *world) newTerm(on *fakeNode) {
	w.term++
	w.queue = nil
	w.arb = New(Config{Self: on.id(), Start: w.now, Random: &w.random})
	w.arb.TakesBatches(!w.older)
	w.arb.GrantsOnResume(!w.older)
	for _, n := range w.nodes {
		n.up = false
	}
	for _, c := range w.clients {
		c.attached = false
	}
}

func (w *world) nodeUp(n *fakeNode, boot int) {
	n.up, n.boot = true, boot
	w.queue = append(w.queue, NodeUp{n.id(), n.bootID()})
	w.prekeys(n, 64)
}

func (w *world) nodeDown(n *fakeNode) {
	n.up = false
	w.queue = append(w.queue, NodeDown{n.id(), n.bootID()})
}

func (w *world) prekeys(n *fakeNode, count int) {
	var spis []uint32
	for range count {
		n.next++
		spis = append(spis, uint32(w.state.Nodes[n.id()].Index)<<20|n.next)
	}
	w.queue = append(w.queue, Prekeys{n.id(), spis})
}

func (w *world) addClient(name string) *fakeClient {
	w.must(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: name}}})
	c := &fakeClient{name: name}
	w.clients = append(w.clients, c)
	return c
}

// ask opens a session under a new request.
func (w *world) ask(c *fakeClient, bandwidth uint64, entered identity.NodeID) {
	c.asked++
	c.request = registry.RequestID{byte(slices.Index(w.clients, c) + 1), byte(c.asked)}
	c.open = Open{
		Request: c.request, Client: c.name, Bandwidth: bandwidth, Entered: entered,
		Key: identity.PublicKey{1, byte(c.asked)}, Identity: make([]byte, 32), Hello: make([]byte, 32), Suite: 1,
		Mode: c.mode, Shares: c.shares, Device: c.device, Track: !c.device.IsZero(),
	}
	c.open.Hello[0] = byte(c.asked)
	w.askAgain(c)
}

// askAgain repeats the request as it was.
func (w *world) askAgain(c *fakeClient) {
	c.attached, c.told = true, ""
	w.queue = append(w.queue, c.open)
}

func (w *world) resume(c *fakeClient, keeps bool) {
	c.asked++
	c.request = registry.RequestID{byte(slices.Index(w.clients, c) + 1), byte(c.asked)}
	c.attached, c.told = true, ""
	hello := make([]byte, 32)
	hello[0] = byte(c.asked)
	w.queue = append(w.queue, Resume{
		Session: c.session, Request: c.request, Key: identity.PublicKey{1, byte(c.asked)}, Hello: hello, KeepsSAs: keeps})
}

func (w *world) clientGone(c *fakeClient) {
	c.attached = false
	w.queue = append(w.queue, ClientGone{c.request})
}

// settle feeds events and what follows from them until nothing does.
func (w *world) settle() {
	for len(w.queue) > 0 {
		e := w.queue[0]
		w.queue = w.queue[1:]
		w.do(w.arb.Step(w.now, w.state, e))
	}
}

// run lets time pass in steps.
func (w *world) run(d, step time.Duration) {
	w.settle()
	for end := w.now + d; w.now < end; {
		w.now += step
		w.do(w.arb.Tick(w.now, w.state))
		w.settle()
	}
}

func (w *world) do(actions []Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case Propose:
			w.propose(action)
		case SendGrant:
			w.grant(action)
		case SendClient:
			w.tell(action)
		case Refuse:
			c := w.byRequest(action.Request)
			w.log("refuse %s %s: %s", c.name, action.Code, action.Reason)
			c.attached, c.told = false, string(action.Code)
		case CloseClient:
			c := w.byRequest(action.Request)
			w.log("close %s", c.name)
			c.attached, c.told = false, "closed"
			w.queue = append(w.queue, ClientGone(action))
		case CallClient:
			w.log("call %s", w.clientOf(action.Session))
		case RevokeSlice:
			w.log("revoke %s %s/%d@%d", w.node(action.Node).name, w.clientOf(action.Session), action.Number, action.Epoch)
		case NodeDrained:
			w.log("drained %s", w.node(action.Node).name)
		case KeepPart:
			w.log("keep %v: %s gives it back", action.Part, w.node(action.Node).name)
		case AlertOperator:
			w.log("alert: %s", action.Text)
		}
	}
}

func (w *world) propose(p Propose) {
	text := w.describe(p.Command)
	w.judgeMove(p.Command.MovePart)
	if w.unknown > 0 {
		w.unknown--
		w.log("propose %s = unknown", text)
		if !w.lost {
			w.apply(p.Command)
		}
		w.queue = append(w.queue, Committed{Tag: p.Tag, Unknown: true})
		return
	}
	r := w.apply(p.Command)
	if r.Code != "" {
		text += " = " + string(r.Code)
	}
	w.log("propose %s", text)
	w.queue = append(w.queue, Committed{Tag: p.Tag, Result: r})
}

// judgeMove: no part goes to a node that says that it does not forward.
func (w *world) judgeMove(m *registry.MovePart) {
	if m == nil {
		return
	}
	for _, p := range w.state.Parts {
		if p.Prefix == m.Prefix && p.Egress != m.Egress && w.arb.sound(m.Egress) == Broken {
			w.wrong = append(w.wrong, fmt.Sprintf("part %v goes to %s, which is broken", p.Prefix, w.node(m.Egress).name))
		}
	}
}

// grant is I6 seen from an agent: what it is told is in the registry.
func (w *world) grant(g SendGrant) {
	n := w.node(g.Node)
	w.log("grant %s %s/%d@%d", n.name, w.clientOf(g.Session), g.Slice.Number, g.Slice.Epoch)
	if sl, found := sliceOf(w.state.Sessions.Get(g.Session), g.Slice.Number); !found || sl != g.Slice || sl.Agent != g.Node {
		w.wrong = append(w.wrong, fmt.Sprintf("I6: grant %+v is not what is committed: %+v", g.Slice, sl))
	}
	prekey, slice := fmt.Sprintf("%x %x", g.Slice.Boot, g.Slice.SPI), sliceKey(g.Session, g.Slice)
	if before, again := w.spent[prekey]; again && before != slice {
		w.wrong = append(w.wrong, fmt.Sprintf("I2: prekey %s of %s granted again for %s", prekey, before, slice))
	}
	w.spent[prekey] = slice
	ack := SliceAck{Node: g.Node, Session: g.Session, Number: g.Slice.Number, Epoch: g.Slice.Epoch}
	switch {
	case !n.up || n.behave == "mute":
		return
	case n.behave == "refuse" || n.bootID() != g.Slice.Boot:
		ack.Refused = "no room"
	default:
		w.acked[sliceKey(g.Session, g.Slice)] = true
	}
	w.queue = append(w.queue, ack)
}

func (w *world) tell(t SendClient) {
	c := w.byRequest(t.Request)
	what := map[What]string{Opened: "opened", Granted: "granted", Ended: "ended", Parked: "parked"}[t.What]
	c.told = what
	var list []string
	for _, sl := range t.Slices {
		list = append(list, w.slice(sl))
		if !w.acked[sliceKey(t.Session, sl)] {
			w.wrong = append(w.wrong, fmt.Sprintf("client told of slice %d@%d that no agent acknowledged", sl.Number, sl.Epoch))
		}
		if n := w.node(sl.Agent); c.attached && !c.dull && n.up && n.bootID() == sl.Boot {
			w.queue = append(w.queue, SliceUp{t.Session, sl.Number, sl.Epoch, false})
		}
	}
	extra := t.Reason
	if t.Absorbed {
		extra = "absorbed"
	}
	w.log("%s", strings.TrimSpace(fmt.Sprintf("client %s %s [%s] %s", c.name, what, strings.Join(list, ", "), extra)))
	c.session = t.Session
	if t.What == Ended {
		c.attached, c.session = false, registry.SessionID{}
	}
}

func sliceKey(id registry.SessionID, sl registry.Slice) string {
	return fmt.Sprintf("%x/%d@%d %x", id, sl.Number, sl.Epoch, sl.SPI)
}

func (w *world) node(id identity.NodeID) *fakeNode {
	for _, n := range w.nodes {
		if n.id() == id {
			return n
		}
	}
	return &fakeNode{name: "nobody"}
}

func (w *world) byName(name string) *fakeNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	panic("no node " + name)
}

func (w *world) client(name string) *fakeClient {
	for _, c := range w.clients {
		if c.name == name {
			return c
		}
	}
	return w.addClient(name)
}

func (w *world) byRequest(r registry.RequestID) *fakeClient { return w.clients[r[0]-1] }

func (w *world) clientOf(id registry.SessionID) string {
	if s := w.state.Sessions.Get(id); s != nil {
		return s.Client
	}
	return "?"
}

func (w *world) slice(sl registry.Slice) string {
	text := fmt.Sprintf("%d@%d %s w%d", sl.Number, sl.Epoch, w.node(sl.Agent).name, sl.Weight)
	if sl.Spare {
		text += " spare"
	}
	return text
}

func (w *world) slices(all []registry.Slice) string {
	var list []string
	for _, sl := range all {
		list = append(list, w.slice(sl))
	}
	return strings.Join(list, ", ")
}

func (w *world) describe(c registry.Command) string {
	switch {
	case c.OpenSession != nil:
		return fmt.Sprintf("open %s [%s]", c.OpenSession.Session.Client, w.slices(c.OpenSession.Slices))
	case c.GrantSlice != nil:
		text := fmt.Sprintf("slice %s/%s", w.clientOf(c.GrantSlice.Session), w.slice(c.GrantSlice.Slice))
		if c.GrantSlice.Retire {
			text += " retire"
		}
		return text
	case c.MarkSlice != nil:
		m := c.MarkSlice
		return fmt.Sprintf("mark %s/%d@%d %s", w.clientOf(m.Session), m.Number, m.Epoch, m.State)
	case c.MarkSlices != nil:
		var list []string
		for _, m := range c.MarkSlices.Marks {
			list = append(list, fmt.Sprintf("%s/%d@%d %s", w.clientOf(m.Session), m.Number, m.Epoch, m.State))
		}
		return "mark " + strings.Join(list, ", ")
	case c.WeighSlices != nil:
		var list []string
		for _, w := range c.WeighSlices.Weights {
			list = append(list, fmt.Sprintf("%d@%d w%d", w.Number, w.Epoch, w.Weight))
		}
		return fmt.Sprintf("weigh %s [%s]", w.clientOf(c.WeighSlices.Session), strings.Join(list, ", "))
	case c.MovePart != nil:
		return fmt.Sprintf("part %v egress %s second %s", c.MovePart.Prefix, w.node(c.MovePart.Egress).name, w.node(c.MovePart.Second).name)
	case c.ResumeKey != nil:
		text := "resume " + w.clientOf(c.ResumeKey.Session)
		if len(c.ResumeKey.Slices) > 0 {
			text += " [" + w.slices(c.ResumeKey.Slices) + "]"
		}
		return text
	case c.EndSession != nil:
		return fmt.Sprintf("end %s: %s", w.clientOf(c.EndSession.Session), c.EndSession.Reason)
	case c.SetRoles != nil:
		return fmt.Sprintf("roles %s %#x drained %v", w.node(c.SetRoles.ID).name, uint8(c.SetRoles.Is), c.SetRoles.Drained)
	}
	return "?"
}
