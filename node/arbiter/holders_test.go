package arbiter

import (
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// askedOf takes the questions said to a node.
func askedOf(n *nodeStream) (ids []registry.SessionID) {
	for m := n.Take(); m != nil; m = n.Take() {
		if m.Ended != nil {
			ids = append(ids, m.Ended.Sessions...)
		}
	}
	return ids
}

// begun commits a session with one slice, on a node.
func (f *fixture) begun(n *nodeStream, id byte) registry.SessionID {
	f.Helper()
	session, row := registry.SessionID{id}, f.store.state.Nodes[n.node]
	f.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Is: registry.RoleAgent}})
	f.commit(registry.Command{OpenSession: &registry.OpenSession{
		Session: registry.Session{ID: session, Client: "ann", Request: registry.RequestID{id}, Key: identity.PublicKey{id},
			Identity: make([]byte, 32), Hello: make([]byte, 32), Device: registry.DeviceID{id}},
		Part: f.store.state.Parts[0].Prefix, Track: true,
		Slices: []registry.Slice{{Suite: 1, Agent: n.node, Boot: n.hello.Boot, SPI: uint32(row.Index)<<20 | uint32(id), Weight: 1}},
	}})
	return session
}

// ended commits that a session is over which a node has held since it opened.
func (f *fixture) ended(n *nodeStream, id byte) registry.SessionID {
	f.Helper()
	session := f.begun(n, id)
	f.commit(registry.Command{EndSession: &registry.EndSession{Session: session}})
	return session
}

func (f *fixture) held() int { return f.store.state.PoolUse()[0].Held }

// TestHoldersAreAsked: an agent is asked over its stream about sessions that are
// over, its answer is committed, and nothing that it was not asked (I13).
func TestHoldersAreAsked(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", registry.RoleAgent)
	n.hello.Boot, n.hello.Reads = identity.BootID{7}, registry.CommandVersion
	f.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
	first, second := f.ended(n, 1), f.ended(n, 2)
	said := func(ids ...registry.SessionID) {
		t.Helper()
		nodeSaid{n, &protocol.Node{Freed: &protocol.Sessions{Sessions: ids}}}.apply(a)
		for _, c := range proposed(a) {
			if c.Acknowledge != nil {
				f.commit(c)
			}
		}
	}
	said(first)
	if f.held() != 2 {
		t.Fatalf("%d held after an answer to no question", f.held())
	}
	a.askHolders()
	if ids := askedOf(n); len(ids) != 2 || !slices.Contains(ids, first) || !slices.Contains(ids, second) {
		t.Fatalf("asked about %v", ids)
	}
	a.askHolders()
	if ids := askedOf(n); len(ids) != 0 {
		t.Fatalf("asked again at once about %v", ids)
	}
	if said(first); f.held() != 1 {
		t.Fatalf("%d held", f.held())
	}
	f.now.Add(int64(AskAgain + time.Second))
	a.askHolders()
	if ids := askedOf(n); !slices.Equal(ids, []registry.SessionID{second}) {
		t.Fatalf("asked again about %v", ids)
	}
	n.hello.Boot = identity.BootID{8} // another process: it cannot speak for that one
	a.askHolders()
	if said(second); f.held() != 1 {
		t.Fatalf("%d held", f.held())
	}
}

// TestNobodyIsAskedInVain: while a replica cannot read the answer, which would be
// dropped, nobody is asked.
func TestNobodyIsAskedInVain(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n, older := f.member(a, "n2", registry.RoleAgent), f.member(a, "n3", registry.RoleVoter)
	n.hello.Boot = identity.BootID{7}
	f.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
	session := f.ended(n, 1)
	f.ok(f.store.AddVoter(t.Context(), older.node))
	older.hello.Reads = trackedVersion - 1
	a.askHolders()
	if ids := askedOf(n); len(ids) != 0 {
		t.Errorf("asked about %v", ids)
	}
	older.hello.Reads = trackedVersion
	a.askHolders()
	if ids := askedOf(n); !slices.Equal(ids, []registry.SessionID{session}) {
		t.Errorf("asked about %v, once all can read it", ids)
	}
}

// TestOlderReplicasAreSpared: while one of them cannot read of devices and holders,
// sessions are opened as before.
func TestOlderReplicasAreSpared(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	a.began = a.config.Now()
	n := f.member(a, "n2", registry.RoleAgent)
	n.hello.Reads = 0
	if !a.reads(trackedVersion) {
		t.Error("a node that keeps no log is waited for")
	}
	f.ok(f.store.AddVoter(t.Context(), n.node))
	c := &clientStream{introduction: &introduction{device: registry.DeviceID{5}}}
	if id, track := a.deviceOf(c); track || !id.IsZero() {
		t.Errorf("device %s, track %t beside an older voter", id, track)
	}
	n.hello.Reads = registry.CommandVersion
	if id, track := a.deviceOf(c); !track || id != c.device {
		t.Errorf("device %s, track %t", id, track)
	}
	delete(a.nodes, n.node)
	if a.reads(trackedVersion) {
		t.Error("a voter that has had no time to come is taken for one that reads")
	}
	f.now.Add(int64(ServersWithin))
	if a.reads(trackedVersion) {
		t.Error("a voter that runs, between two streams, is taken for one that reads")
	}
	f.shut(n, true)
	if !a.reads(trackedVersion) {
		t.Error("a voter that is down holds up devices")
	}
}

// TestDeviceIsProven: whoever names a device has the key of the session that wants it.
func TestDeviceIsProven(t *testing.T) {
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	exporter, hello, id := make([]byte, mka.ExporterSize), []byte("hello"), mka.DeviceID{3}
	good := protocol.Hello{Hello: hello, Device: id[:], DeviceProof: mka.SignDevice(key, exporter, hello, id)}
	for name, tc := range map[string]struct {
		edit func(*protocol.Hello)
		want registry.DeviceID
		ok   bool
	}{
		"good":     {func(*protocol.Hello) {}, registry.DeviceID(id), true},
		"none":     {func(h *protocol.Hello) { h.Device, h.DeviceProof = nil, nil }, registry.DeviceID{}, true},
		"unproven": {func(h *protocol.Hello) { h.DeviceProof = nil }, registry.DeviceID{}, false},
		"other":    {func(h *protocol.Hello) { h.Device = make([]byte, 16) }, registry.DeviceID{}, false},
		"short":    {func(h *protocol.Hello) { h.Device = id[:15] }, registry.DeviceID{}, false},
	} {
		c, m := &clientStream{introduction: &introduction{}, key: key.Public()}, good
		tc.edit(&m)
		if err := c.ofDevice(&m, exporter); (err == nil) != tc.ok || c.device != tc.want {
			t.Errorf("%s: device %s, %v", name, c.device, err)
		}
	}
}
