package registry

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// model is the registry as one would explain it: it remembers everything that
// ever happened and decides each question from the whole history. It shares no
// code with Apply.
type model struct {
	tick     int
	headless []int // most headless seconds in force during each tick, by tick
	policy   int   // headless now
	most     int   // sessions of one client, 0: any number
	stop     []int // last tick at which a node that heard its last word by then may run
	revoked  map[string]bool
	nodes    map[identity.NodeID]*modelNode
	holders  []modelHolder // of indexes, in order of time
	sessions map[SessionID]*modelSession
	leases   []*modelSession // every session ever, in order of time
	owners   map[sliceEpoch]Slice
	prekeys  map[prekey]bool
}

type modelNode struct {
	index         int
	agent, active bool
	removed       bool
	until         int // of a removed one, when its last SA may stop
	boot          identity.BootID
	boots         []identity.BootID
}

// modelHolder is one holding of an index; until is when the last SA of it may
// stop, -1 while it is held.
type modelHolder struct{ index, until int }

type modelSession struct {
	id       SessionID
	client   string
	device   DeviceID
	tracked  bool
	held     map[process]bool // that were granted an SA of it → acknowledged its end
	lease    netip.Addr
	ended    bool
	until    int // when the last node that missed its end may stop
	disowned bool
	epochs   map[uint8]uint32
}

// process is one life of a node.
type process struct {
	node identity.NodeID
	boot identity.BootID
}

type sliceEpoch struct {
	session SessionID
	number  uint8
	epoch   uint32
}

type prekey struct {
	agent identity.NodeID
	boot  identity.BootID
	spi   uint32
}

func newModel(headless int) *model {
	return &model{
		policy: headless, headless: []int{headless}, stop: []int{headless},
		revoked: map[string]bool{}, nodes: map[identity.NodeID]*modelNode{}, sessions: map[SessionID]*modelSession{},
		owners: map[sliceEpoch]Slice{}, prekeys: map[prekey]bool{},
	}
}

func (m *model) setPolicy(headless int) {
	m.policy = headless
	m.headless[m.tick] = max(m.headless[m.tick], headless)
	m.restop()
}

func (m *model) advance(seconds int) {
	for range seconds {
		m.tick++
		m.headless = append(m.headless, m.policy)
		m.stop = append(m.stop, 0)
		m.restop()
	}
}

func (m *model) restop() {
	m.stop[m.tick] = m.tick + m.headless[m.tick]
	if m.tick > 0 {
		m.stop[m.tick] = max(m.stop[m.tick], m.stop[m.tick-1])
	}
}

// end is noted with what may outlive it: whoever has not heard of it goes on by
// a word, and a policy, from before.
func (m *model) end(ses *modelSession) { ses.ended, ses.until = true, m.stop[m.tick] }

// free is I13: nothing still runs, plus a minute.
func (m *model) free(until int) bool { return until >= 0 && m.tick >= until+60 }

// silent is whether nothing can still run for an ended session: by time, or since
// each process that held an SA of it said so, or is dead.
func (m *model) silent(ses *modelSession) bool {
	if m.free(ses.until) {
		return true
	}
	for p, acknowledged := range ses.held {
		n := m.nodes[p.node]
		dead := n.boot != p.boot || n.removed && m.free(n.until)
		if !acknowledged && !dead {
			return false
		}
	}
	return ses.tracked
}

// mayHave is whether the client may get the address when the given sessions end.
func (m *model) mayHave(a netip.Addr, client string, ends []*modelSession) bool {
	for _, ses := range m.leases {
		own := ses.client == client && !ses.disowned
		over := ses.ended || slices.Contains(ends, ses)
		if ses.lease == a && !(over && (own || m.silent(ses))) {
			return false
		}
	}
	return true
}

// had is whether the client's device was the last to have the address.
func (m *model) had(a netip.Addr, client string, device DeviceID) bool {
	for _, ses := range slices.Backward(m.leases) {
		if ses.lease == a {
			return ses.client == client && ses.device == device && !ses.disowned && ses.ended
		}
	}
	return false
}

// living are the sessions of a client that are not over, those of one device apart.
func (m *model) living(client string, device DeviceID) (same, others []*modelSession) {
	for _, ses := range m.leases {
		switch {
		case ses.ended || ses.client != client:
		case ses.device == device && device != DeviceID{}:
			same = append(same, ses)
		default:
			others = append(others, ses)
		}
	}
	return same, others
}

func (m *model) lowestIndex() int {
	for i := 1; ; i++ {
		taken := func(h modelHolder) bool { return h.index == i && !m.free(h.until) }
		if !slices.ContainsFunc(m.holders, taken) {
			return i
		}
	}
}

func (m *model) grantable(sl Slice) bool {
	n := m.nodes[sl.Agent]
	if n == nil || n.removed || !n.agent || !n.active || sl.Weight == 0 {
		return false
	}
	if slices.Contains(n.boots, sl.Boot) && sl.Boot != n.boot {
		return false
	}
	return int(sl.SPI>>20) == n.index && !m.prekeys[prekey{sl.Agent, sl.Boot, sl.SPI}]
}

func (m *model) granted(t *testing.T, id SessionID, sl Slice) {
	t.Helper()
	at := sliceEpoch{id, sl.Number, sl.Epoch}
	if old, owned := m.owners[at]; owned { // I3
		t.Fatalf("%+v has two owners: %+v and %+v", at, old, sl)
	}
	m.owners[at] = sl
	m.prekeys[prekey{sl.Agent, sl.Boot, sl.SPI}] = true
	m.sessions[id].epochs[sl.Number] = sl.Epoch
	m.sessions[id].held[process{sl.Agent, sl.Boot}] = false
	m.boot(sl.Agent, sl.Boot)
}

func (m *model) boot(id identity.NodeID, boot identity.BootID) {
	n := m.nodes[id]
	n.boot = boot
	if !slices.Contains(n.boots, boot) {
		n.boots = append(n.boots, boot)
	}
}

// run is one random history, applied to a registry and told to the model.
type run struct {
	*testing.T
	rnd     *rand.Rand
	m       *model
	s       *State
	index   uint64
	term    uint64
	next    int // fresh numbers for sessions, requests, nodes
	boots   int
	pool    []netip.Addr // what clients may get
	part    netip.Prefix
	refused int
	done    int
}

func newRun(t *testing.T, seed uint64) *run {
	r := &run{T: t, rnd: rand.New(rand.NewPCG(seed, 1)), m: newModel(30), s: New(), term: 1, next: 1}
	r.part = prefix("10.9.0.0/27")
	for a := netip.MustParseAddr("10.9.0.16"); a.As4()[3] < 31; a = a.Next() {
		r.pool = append(r.pool, a)
	}
	c := founding()
	c.Cluster.Pool, c.Parts, c.Policy.Headless = []netip.Prefix{r.part}, []Part{{Prefix: r.part}}, 30
	r.apply(Command{Found: c}, true)
	r.m.nodes[node(0)] = &modelNode{index: 1, agent: true, active: true}
	r.m.holders = append(r.m.holders, modelHolder{1, -1})
	r.apply(Command{CreateToken: &CreateToken{Token: Token{
		ID: "tok", Verify: []byte("v"), May: anyRoles, Uses: MaxUses, Expires: MaxTokenLife}}}, true)
	for _, name := range clientNames {
		r.apply(Command{PutClient: &PutClient{Client: Client{Name: name}}}, true)
	}
	return r
}

var clientNames = []string{"a", "b", "c", "d", "e", "f"}

// apply expects the command to take effect exactly if the model says so.
func (r *run) apply(c Command, want bool) Result {
	r.Helper()
	if r.index++; r.rnd.IntN(50) == 0 {
		r.term++
	}
	binary.BigEndian.PutUint64(c.ID[:], r.index)
	result := Apply(r.s, r.index, r.term, c)
	if got := result.Code == ""; got != want {
		r.Fatalf("entry %d: %v, the model says %v", r.index, result.Err(), want)
	}
	if again := Apply(r.s, r.index+1, r.term, c); again != result {
		r.Fatalf("entry %d: repeated it answers %+v, before %+v", r.index, again, result)
	}
	if result.Index != r.index || result.Term != r.term {
		r.Fatalf("entry %d: result %+v", r.index, result)
	}
	if r.done++; !want {
		r.refused++
	}
	return result
}

func (r *run) step() {
	switch p := r.rnd.IntN(100); {
	case p < 22:
		r.open()
	case p < 52:
		r.grant()
	case p < 64:
		r.mark()
	case p < 74:
		r.endSession()
	case p < 88:
		r.advance()
	case p < 91:
		r.join()
	case p < 93:
		r.remove()
	case p < 95:
		r.roles()
	case p < 97:
		r.revoke()
	case p < 98:
		r.setPolicy()
	case p < 99:
		r.acknowledge()
	default:
		r.reboot()
	}
}

func (r *run) anyNode() identity.NodeID {
	known := []identity.NodeID{node(100_000)}
	for n := range r.next + 1 {
		if r.m.nodes[node(n)] != nil {
			known = append(known, node(n))
		}
	}
	return known[r.rnd.IntN(len(known))]
}

func (r *run) anySession() SessionID {
	if len(r.m.leases) == 0 {
		return session(1 << 30)
	}
	recent := r.m.leases[max(0, len(r.m.leases)-20):]
	return recent[r.rnd.IntN(len(recent))].id
}

// anySlice is mostly grantable: a random agent, now and then with a wrong detail.
func (r *run) anySlice(number uint8) Slice {
	id := r.anyNode()
	sl := Slice{Number: number, Suite: 1, Agent: id, Weight: 1, Boot: boot(1_000_000)}
	if n := r.m.nodes[id]; n != nil {
		if len(n.boots) > 0 {
			sl.Boot = n.boot
		}
		sl.SPI = uint32(n.index)<<20 | uint32(r.rnd.IntN(1<<11))
		if len(n.boots) > 1 && r.rnd.IntN(8) == 0 {
			sl.Boot = n.boots[len(n.boots)-2]
		}
	}
	switch r.rnd.IntN(40) {
	case 0:
		sl.Weight = 0
	case 1:
		sl.SPI ^= 1 << 20
	}
	return sl
}

func (r *run) open() {
	client := clientNames[r.rnd.IntN(len(clientNames))]
	r.next++
	id := session(r.next)
	var wanted []Slice
	ok := !r.m.revoked[client]
	for i := range 1 + r.rnd.IntN(3) {
		sl := r.anySlice(uint8(i))
		same := func(o Slice) bool { return o.Agent == sl.Agent && (o.SPI == sl.SPI || o.Boot != sl.Boot) }
		ok = ok && r.m.grantable(sl) && !slices.ContainsFunc(wanted, same)
		wanted = append(wanted, sl)
	}
	track, dev := r.rnd.IntN(3) > 0, DeviceID{}
	var ends []*modelSession
	if track {
		dev = device(r.rnd.IntN(3))
	}
	ends, others := r.m.living(client, dev)
	free := func(a netip.Addr) bool { return r.m.mayHave(a, client, ends) }
	ok = ok && slices.ContainsFunc(r.pool, free) && (r.m.most == 0 || len(others) < r.m.most)
	r.apply(Command{OpenSession: &OpenSession{Part: r.part, Slices: wanted, Track: track, Session: Session{
		ID: id, Client: client, Device: dev, Request: request(r.next), Key: key(r.next), Identity: hash, Hello: hash}}}, ok)
	if !ok {
		return
	}
	for _, old := range ends {
		r.m.end(old)
		if was := r.s.Sessions.Get(old.id); was.State != SessionEnded || was.Reason != ReasonReplaced {
			r.Fatalf("entry %d: the session before is %s, %q", r.index, was.State, was.Reason)
		}
	}
	lease := r.s.Sessions.Get(id).Leases[0]
	if !slices.Contains(r.pool, lease) || !free(lease) { // I13
		r.Fatalf("entry %d: client %s was given %s", r.index, client, lease)
	}
	for _, d := range []DeviceID{dev, {}} {
		had := func(a netip.Addr) bool { return r.m.had(a, client, d) }
		if own := slices.IndexFunc(r.pool, had); own >= 0 {
			if r.pool[own] != lease {
				r.Fatalf("entry %d: device %s of client %s was given %s, had %s", r.index, dev, client, lease, r.pool[own])
			}
			break
		}
	}
	r.m.sessions[id] = &modelSession{id: id, client: client, device: dev, tracked: track, lease: lease,
		epochs: map[uint8]uint32{}, held: map[process]bool{}}
	r.m.leases = append(r.m.leases, r.m.sessions[id])
	for _, sl := range wanted {
		sl.Epoch = 1
		r.m.granted(r.T, id, sl)
	}
	r.checkGrants(id)
}

func (r *run) grant() {
	id := r.anySession()
	ses := r.m.sessions[id]
	sl := r.anySlice(uint8(r.rnd.IntN(4)))
	ok := ses != nil && !ses.ended && r.m.grantable(sl)
	if ses != nil {
		sl.Epoch = ses.epochs[sl.Number] + 1
	}
	if r.rnd.IntN(6) == 0 {
		sl.Epoch += uint32(r.rnd.IntN(3)) - 1
	}
	ok = ok && sl.Epoch == ses.epochs[sl.Number]+1
	retire := r.rnd.IntN(2) == 0 && ses != nil && len(r.s.Sessions.Get(id).Retiring) < MaxRetiring
	r.apply(Command{GrantSlice: &GrantSlice{Session: id, Slice: sl, Retire: retire}}, ok)
	if ok {
		r.m.granted(r.T, id, sl)
		r.checkGrants(id)
	}
}

// checkGrants is I6 and I3 seen from the state: each slice is what one commit
// made it, and nobody but its owner stands in it.
func (r *run) checkGrants(id SessionID) {
	ses := r.s.Sessions.Get(id)
	fresh := 0
	for _, sl := range slices.Concat(ses.Slices, ses.Retiring) {
		owner := r.m.owners[sliceEpoch{id, sl.Number, sl.Epoch}]
		if owner.Agent != sl.Agent || owner.SPI != sl.SPI || owner.Boot != sl.Boot {
			r.Fatalf("entry %d: slice %+v, its owner %+v", r.index, sl, owner)
		}
		if sl.Index == 0 || sl.Index > r.index || sl.Term > r.term {
			r.Fatalf("entry %d: slice of commit %d/%d", r.index, sl.Term, sl.Index)
		}
		if sl.Index == r.index && sl.Term == r.term {
			fresh++
		}
	}
	if fresh == 0 {
		r.Fatalf("entry %d: no slice carries this commit: %+v", r.index, ses.Slices)
	}
}

func (r *run) mark() {
	id := r.anySession()
	ses := r.s.Sessions.Get(id)
	if ses == nil || ses.State != SessionActive {
		r.apply(mark(-2, 1, SliceUp), false)
		return
	}
	all := slices.Concat(ses.Slices, ses.Retiring)
	sl := all[r.rnd.IntN(len(all))]
	state := []SliceState{SliceUp, SliceVoid}[r.rnd.IntN(2)]
	ok := sl.State != SliceVoid || state == SliceVoid
	if r.rnd.IntN(2) == 0 { // the same among others, one of which is about nothing
		one := MarkSlice{Session: id, Number: sl.Number, Epoch: sl.Epoch, State: state}
		r.apply(Command{MarkSlices: &MarkSlices{Marks: []MarkSlice{*mark(-2, 1, SliceUp).MarkSlice, one}}}, true)
		return
	}
	r.apply(Command{MarkSlice: &MarkSlice{Session: id, Number: sl.Number, Epoch: sl.Epoch, State: state}}, ok)
}

func (r *run) endSession() {
	id := r.anySession()
	ses := r.m.sessions[id]
	ok := ses != nil && !ses.ended
	r.apply(Command{EndSession: &EndSession{Session: id, Reason: "x"}}, ok)
	if ok {
		r.m.end(ses)
	}
}

func (r *run) advance() {
	seconds := 1 + r.rnd.IntN(30)
	r.apply(Command{AdvanceTick: &AdvanceTick{Elapsed: uint64(seconds)}}, true)
	r.m.advance(seconds)
}

func (r *run) join() {
	r.next++
	id, index := node(r.next), r.m.lowestIndex()
	r.apply(Command{JoinNode: &JoinNode{Token: "tok", Node: Node{Key: key(r.next)}}}, true)
	if got := int(r.s.Nodes[id].Index); got != index { // I13
		r.Fatalf("entry %d: index %d, the lowest free is %d", r.index, got, index)
	}
	r.m.nodes[id] = &modelNode{index: index}
	r.m.holders = append(r.m.holders, modelHolder{index, -1})
	r.setRoles(id, true, true)
}

func (r *run) setRoles(id identity.NodeID, agent, active bool) {
	is := RoleGateway
	if agent {
		is |= RoleAgent
	}
	n := r.m.nodes[id]
	ok := n != nil && !n.removed
	r.apply(Command{SetRoles: &SetRoles{ID: id, Is: is, Drained: !active}}, ok)
	if ok {
		n.agent, n.active = agent, active
	}
}

func (r *run) roles() { r.setRoles(r.anyNode(), r.rnd.IntN(8) > 0, r.rnd.IntN(8) > 0) }

func (r *run) remove() {
	id := r.anyNode()
	n := r.m.nodes[id]
	ok := n != nil && !n.removed
	r.apply(Command{RemoveNode: &RemoveNode{ID: id}}, ok)
	if !ok {
		return
	}
	n.removed, n.until = true, r.m.stop[r.m.tick]
	for i := range r.m.holders {
		if h := &r.m.holders[i]; h.index == n.index && h.until < 0 {
			h.until = r.m.stop[r.m.tick]
		}
	}
	for _, ses := range r.s.ActiveSessions() {
		for _, sl := range slices.Concat(ses.Slices, ses.Retiring) {
			if sl.Agent == id && sl.State != SliceVoid {
				r.Fatalf("entry %d: a removed node owns %+v", r.index, sl)
			}
		}
	}
}

func (r *run) revoke() {
	name := clientNames[r.rnd.IntN(len(clientNames))]
	r.apply(Command{RevokeClient: &RevokeClient{Name: name}}, true)
	for _, ses := range r.m.leases {
		if ses.client == name {
			ses.disowned = true
			if !ses.ended {
				r.m.end(ses)
			}
		}
	}
	r.apply(Command{PutClient: &PutClient{Client: Client{Name: name}}}, true) // somebody new of that name
}

func (r *run) setPolicy() {
	headless := 5 + r.rnd.IntN(90)
	r.m.most = r.rnd.IntN(6)
	r.apply(Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: uint64(headless), Sessions: r.m.most}}}, true)
	r.m.setPolicy(headless)
}

// acknowledge has a node speak of some sessions, or somebody in the name of its past.
func (r *run) acknowledge() {
	for range 12 { // about one session each, as agents do
		id := r.anyNode()
		n, at := r.m.nodes[id], boot(2_000_000)
		if n != nil && r.rnd.IntN(8) > 0 {
			at = n.boot
		}
		over := r.anySession()
		ses := r.m.sessions[over]
		ok := n != nil && !n.removed && at == n.boot && (ses == nil || ses.ended)
		r.apply(Command{Acknowledge: &Acknowledge{Agent: id, Boot: at, Sessions: []SessionID{over}}}, ok)
		if _, held := ses.holds(id, at); ok && held {
			ses.held[process{id, at}] = true
		}
	}
}

func (ses *modelSession) holds(id identity.NodeID, at identity.BootID) (acknowledged, held bool) {
	if ses == nil {
		return false, false
	}
	acknowledged, held = ses.held[process{id, at}]
	return acknowledged, held
}

func (r *run) reboot() {
	id := r.anyNode()
	n := r.m.nodes[id]
	r.boots++
	ok := n != nil && !n.removed
	r.apply(Command{UpdateNode: &UpdateNode{ID: id, Boot: boot(r.boots)}}, ok)
	if ok {
		r.m.boot(id, boot(r.boots))
	}
}

// I3, I6, I13 against the model, over random histories. A second replica that is
// stopped and restored from snapshots now and then holds the same state.
func TestAgainstModel(t *testing.T) {
	const seeds, steps = 6, 1200
	for seed := range uint64(seeds) {
		r := newRun(t, seed)
		for range steps {
			r.step()
		}
		if t.Failed() || r.refused < steps/20 || r.refused > r.done*3/4 || len(r.m.leases) < steps/60 {
			t.Fatalf("seed %d: %d of %d refused, %d sessions: not a fair history",
				seed, r.refused, r.done, len(r.m.leases))
		}
	}
}
