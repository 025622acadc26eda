package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh"
	"github.com/meshcrypt/meshcrypt/mesh/meshtest"
)

// settle is longer than suspicion takes in a mesh of three.
const settle = 90 * time.Second

func name(i int) identity.NodeID { return identity.PublicKey{byte(i)}.ID() }
func addr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 6485)
}
func all(identity.NodeID) bool     { return true }
func hint(i int) mesh.Hint         { return mesh.Hint{Index: identity.Index(i), Load: 100, Capacity: 2000} }
func gossipKey(fill string) []byte { return []byte(strings.Repeat(fill, mesh.KeySize)) }

// wait lets virtual time pass.
func wait(d time.Duration) { <-time.After(d) }

func config(net *meshtest.Network, i int) mesh.Config {
	return mesh.Config{
		Name: name(i), Cluster: identity.ClusterID{1}, Key: gossipKey("k"),
		Known: all, Log: slog.New(slog.DiscardHandler), Transport: net.Host(addr(i)),
	}
}

func open(t *testing.T, c mesh.Config) *mesh.Mesh {
	t.Helper()
	m, err := mesh.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inBubble runs body in virtual time and lets the library's goroutines end.
func inBubble(t *testing.T, body func(t *testing.T, net *meshtest.Network)) {
	synctest.Test(t, func(t *testing.T) {
		body(t, meshtest.NewNetwork())
		wait(settle)
	})
}

// wantMembers checks what m has heard: "index state" of each, sorted.
func wantMembers(t *testing.T, m *mesh.Mesh, want ...string) {
	t.Helper()
	heard := make(map[string]bool)
	for _, member := range m.Hints() {
		heard[fmt.Sprint(member.Hint.Index, " ", member.State)] = true
	}
	for _, w := range want {
		if !heard[w] {
			t.Errorf("heard %v, want %q", heard, w)
		}
	}
	if len(heard) != len(want) {
		t.Errorf("heard %v, want %q", heard, want)
	}
}

func three(t *testing.T, net *meshtest.Network) [3]*mesh.Mesh {
	var nodes [3]*mesh.Mesh
	for i := range nodes {
		nodes[i] = open(t, config(net, i+1))
		t.Cleanup(func() { nodes[i].Close() })
		nodes[i].SetHint(hint(i + 1))
		if i > 0 {
			if err := nodes[i].Join(t.Context(), []netip.AddrPort{addr(1)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	wait(10 * time.Second)
	return nodes
}

func closeAll(nodes [3]*mesh.Mesh) {
	for _, m := range nodes {
		m.Close()
	}
}

func TestHintsSpread(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		for _, m := range nodes {
			wantMembers(t, m, "1 alive", "2 alive", "3 alive")
		}
		drain(nodes[0].Watch())
		changed := hint(3)
		changed.Load = 1900
		nodes[2].SetHint(changed)
		select {
		case <-nodes[0].Watch():
		case <-time.After(5 * time.Second):
			t.Fatal("no change seen")
		}
		for _, member := range nodes[0].Hints() {
			if member.Node == name(3) && (member.Hint != changed || member.Address != addr(3)) {
				t.Errorf("heard %+v", member)
			}
		}
	})
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

func TestDeadIsNotLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		net.Cut(addr(3), true) // as if killed
		if err := nodes[1].Leave(); err != nil {
			t.Fatal(err)
		}
		nodes[1].Close()
		wait(settle)
		wantMembers(t, nodes[0], "1 alive", "2 left", "3 dead")

		net.Cut(addr(3), false)
		if err := nodes[2].Join(t.Context(), []netip.AddrPort{addr(1)}); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second)
		wantMembers(t, nodes[0], "1 alive", "2 left", "3 alive")
	})
}

// TestNodeReturnsElsewhere: a node that died may come back with a new address.
func TestNodeReturnsElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		nodes[2].Close()
		wait(settle)
		c := config(net, 3)
		c.Transport = net.Host(addr(33))
		again := open(t, c)
		defer again.Close()
		again.SetHint(hint(3))
		if err := again.Join(t.Context(), []netip.AddrPort{addr(1)}); err != nil {
			t.Fatal(err)
		}
		wait(10 * time.Second)
		for _, member := range nodes[0].Hints() {
			if member.Node == name(3) && (member.State != mesh.Alive || member.Address != addr(33)) {
				t.Errorf("heard %+v", member)
			}
		}
	})
}

// TestUnknownNameIsDropped: the key alone makes nobody a member (I9).
func TestUnknownNameIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		c := config(net, 1)
		c.Known = func(id identity.NodeID) bool { return id == name(2) }
		member := open(t, c)
		defer member.Close()
		friend, stranger := open(t, config(net, 2)), open(t, config(net, 3))
		defer friend.Close()
		defer stranger.Close()
		if err := stranger.Join(t.Context(), []netip.AddrPort{addr(1)}); err != nil { // is answered, not entered
			t.Fatal(err)
		}
		if err := stranger.Join(t.Context(), []netip.AddrPort{addr(2)}); err != nil { // knows everybody
			t.Fatal(err)
		}
		if err := friend.Join(t.Context(), []netip.AddrPort{addr(1)}); err != nil { // brings the stranger's name
			t.Fatal(err)
		}
		wait(10 * time.Second)
		for _, heard := range member.Hints() {
			if heard.Node == name(3) {
				t.Errorf("heard %+v", heard)
			}
		}
		if n := len(member.Hints()); n != 2 {
			t.Errorf("%d members, want 2", n)
		}
	})
}

// TestForgottenNameVanishes: what the registry removes is not listed any more,
// however alive gossip finds it.
func TestForgottenNameVanishes(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		removed := make(chan struct{})
		c := config(net, 1)
		c.Known = func(id identity.NodeID) bool {
			select {
			case <-removed:
				return false
			default:
				return true
			}
		}
		a, b := open(t, c), open(t, config(net, 2))
		defer a.Close()
		defer b.Close()
		if err := b.Join(t.Context(), []netip.AddrPort{addr(1)}); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		if n := len(a.Hints()); n != 2 {
			t.Fatalf("%d members before, want 2", n)
		}
		close(removed)
		if n := len(a.Hints()); n != 1 {
			t.Errorf("%d members after, want this node alone", n)
		}
	})
}

func TestOtherMeshIsRefused(t *testing.T) {
	for what, change := range map[string]func(*mesh.Config){
		"key":     func(c *mesh.Config) { c.Key = gossipKey("x") },
		"cluster": func(c *mesh.Config) { c.Cluster = identity.ClusterID{2} },
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, func(t *testing.T, net *meshtest.Network) {
				a := open(t, config(net, 1))
				defer a.Close()
				c := config(net, 2)
				change(&c)
				b := open(t, c)
				defer b.Close()
				if err := b.Join(t.Context(), []netip.AddrPort{addr(1)}); !errors.Is(err, mesh.ErrUnreachable) {
					t.Errorf("join: %v", err)
				}
				if len(a.Hints()) != 1 || len(b.Hints()) != 1 {
					t.Errorf("members %d and %d", len(a.Hints()), len(b.Hints()))
				}
			})
		})
	}
}

// TestJoinEnds: a node that ends waits for one address that does not answer, not for those of
// a whole mesh that it is cut off from.
func TestJoinEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		var silent []netip.AddrPort
		for i := range 20 {
			silent = append(silent, addr(2+i))
			net.Host(addr(2 + i)) // nobody listens there
		}
		m := open(t, config(net, 1))
		defer m.Close()
		ctx, cancel := context.WithCancel(t.Context())
		joined := make(chan error, 1)
		go func() { joined <- m.Join(ctx, silent) }()
		wait(time.Second)
		cancel()
		began := time.Now()
		if err := <-joined; !errors.Is(err, mesh.ErrUnreachable) || !errors.Is(err, context.Canceled) {
			t.Errorf("join: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it ended %v after it was told to", took)
		}
	})
}

// TestHintsAreSpaced: however often the load changes, it is broadcast at most
// once in HintInterval, and the last value arrives (I10).
func TestHintsAreSpaced(t *testing.T) {
	inBubble(t, func(t *testing.T, net *meshtest.Network) {
		nodes := three(t, net)
		defer closeAll(nodes)
		changes := 0
		end := time.After(10 * mesh.HintInterval)
		for load := uint32(0); ; load++ {
			h := hint(3)
			h.Load = load
			nodes[2].SetHint(h)
			select {
			case <-nodes[0].Watch():
				changes++
			case <-time.After(time.Millisecond):
			case <-end:
				wait(5 * time.Second)
				if changes < 2 || changes > 12 {
					t.Errorf("%d broadcasts in 10 intervals", changes)
				}
				for _, member := range nodes[0].Hints() {
					if member.Node == name(3) && member.Hint.Load != load {
						t.Errorf("load %d heard, %d said last", member.Hint.Load, load)
					}
				}
				return
			}
		}
	})
}

func TestOpenChecksConfig(t *testing.T) {
	net := meshtest.NewNetwork()
	for what, spoil := range map[string]func(*mesh.Config){
		"name":    func(c *mesh.Config) { c.Name = identity.NodeID{} },
		"cluster": func(c *mesh.Config) { c.Cluster = identity.ClusterID{} },
		"key":     func(c *mesh.Config) { c.Key = c.Key[:16] },
		"known":   func(c *mesh.Config) { c.Known = nil },
		"log":     func(c *mesh.Config) { c.Log = nil },
		"bind":    func(c *mesh.Config) { c.Transport = nil },
	} {
		c := config(net, 1)
		spoil(&c)
		if _, err := mesh.Open(c); !errors.Is(err, mesh.ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestOnSockets opens two members on real UDP and TCP ports.
func TestOnSockets(t *testing.T) {
	var log bytes.Buffer
	var nodes [2]*mesh.Mesh
	for i := range nodes {
		c := config(meshtest.NewNetwork(), i+1)
		c.Transport = nil
		c.Bind = netip.MustParseAddrPort("127.0.0.1:0")
		if i == 0 {
			c.Log = slog.New(slog.NewTextHandler(&log, nil)) // info and above
		}
		nodes[i] = open(t, c)
	}
	if err := nodes[1].Join(t.Context(), []netip.AddrPort{nodes[0].Addr()}); err != nil {
		t.Fatal(err)
	}
	if err := nodes[1].Join(t.Context(), []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}); !errors.Is(err, mesh.ErrUnreachable) {
		t.Errorf("join of a closed port: %v", err)
	}
	for _, m := range nodes {
		for len(m.Hints()) < 2 { // the one who answers enters the other after it
			<-m.Watch()
		}
	}
	for _, m := range nodes {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := m.Leave(); err != nil {
			t.Error("Leave after Close:", err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("the library was heard above debug:\n%s", log.String())
	}
}
