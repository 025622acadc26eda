package mesh

import (
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/meshtest"
)

// TestHintsFitIntoGossip: whatever the size of the mesh, what all say of themselves fills
// half of what each member may gossip, and in a small mesh nobody waits for that.
func TestHintsFitIntoGossip(t *testing.T) {
	lib := memberlist.DefaultLANConfig()
	for n := 1; n <= MaxMembers; n++ {
		every := hintSpacing(lib, n)
		repeats := lib.RetransmitMult
		for m := 10; m < n+1; m *= 10 {
			repeats += lib.RetransmitMult
		}
		said := float64(n*repeats) / every.Seconds() // by each member, all that it passes on
		most := float64(lib.GossipNodes*(packetBytes/hintBytes)) / lib.GossipInterval.Seconds()
		if said > most/2*1.01 || every < HintInterval || n <= 4 && every != HintInterval {
			t.Fatalf("%d members: every %v, so each passes on %.0f hints a second of %.0f", n, every, said, most)
		}
		if n == 3 || n == 10 || n == 100 || n == 1000 {
			t.Logf("%d members: a hint every %v, %.1f hints a second passed on by each, %.0f by all", n, every, said, said*float64(n))
		}
	}
}

// TestHintsAreSpacedByMembers: a mesh of a dozen whose loads change all the time.
func TestHintsAreSpacedByMembers(t *testing.T) {
	const count, during = 12, 30 * time.Second
	synctest.Test(t, func(t *testing.T) {
		net := meshtest.NewNetwork()
		var all []*Mesh
		for n := range count {
			at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(1 + n)}), 6485)
			m, err := Open(Config{
				Name: identity.PublicKey{byte(1 + n)}.ID(), Cluster: identity.ClusterID{1}, Key: make([]byte, KeySize),
				Known: func(identity.NodeID) bool { return true }, Log: slog.New(slog.DiscardHandler), Transport: net.Host(at),
			})
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				if err := m.Join(t.Context(), []netip.AddrPort{all[0].Addr()}); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, m)
		}
		last := identity.PublicKey{count}.ID()
		var heard uint32
		changes, load := 0, uint32(1)
		for end := time.Now().Add(during); time.Now().Before(end); load++ {
			for _, m := range all {
				m.SetHint(Hint{Index: 1, Load: load, Capacity: 2000})
			}
			<-time.After(100 * time.Millisecond)
			for _, m := range all[0].Hints() {
				if m.Node == last && m.Hint.Load != heard {
					heard = m.Hint.Load
					changes++
				}
			}
		}
		every := hintSpacing(all[0].config, count)
		if most := int(during/every) + 2; changes < 3 || changes > most {
			t.Errorf("%d hints in %v, one every %v is %d", changes, during, every, most)
		}
		<-time.After(2 * every)
		for _, m := range all[0].Hints() {
			if m.Node == last && m.Hint.Load != load-1 {
				t.Errorf("load %d heard, %d said last", m.Hint.Load, load-1)
			}
		}
		for _, m := range all {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		<-time.After(time.Minute) // the library's goroutines end
	})
}
