package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestSlicesWithoutAgentAreOneLine: when a node dies and no other takes what it had, the
// operator is told once, how many they are; and of one its number and its client.
func TestSlicesWithoutAgentAreOneLine(t *testing.T) {
	for clients, want := range map[int]string{
		1:  "alert: slice 0 of client c0 has no agent",
		20: "alert: 20 slices have no agent, slice 0 of client ",
	} {
		w := newWorld(2, registry.Policy{Overload: registry.OverloadAbsorb, Slices: 1}, 1000)
		for _, n := range w.nodes {
			w.nodeUp(n, 1)
			w.prekeys(n, 100)
		}
		w.run(time.Second, 50*time.Millisecond)
		for n := range clients {
			w.ask(w.addClient(fmt.Sprintf("c%d", n)), 10, w.nodes[1].id())
		}
		w.run(5*time.Second, 50*time.Millisecond)
		var said []string
		w.log = func(format string, args ...any) {
			if line := fmt.Sprintf(format, args...); strings.Contains(line, "no agent") {
				said = append(said, line)
			}
		}
		for _, n := range w.nodes {
			w.nodeDown(n)
		}
		for _, s := range w.state.Sessions.All() {
			w.queue = append(w.queue, SliceSilent{s.ID, 0, s.Slices[0].Epoch, false})
			w.run(10*time.Millisecond, 10*time.Millisecond)
		}
		w.run(30*time.Second, 50*time.Millisecond)
		if len(said) != 1 || !strings.HasPrefix(said[0], want) {
			t.Errorf("%d clients: %q", clients, said)
		}
	}
}
