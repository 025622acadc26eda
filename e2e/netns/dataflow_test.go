//go:build e2e

package netns

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// TestPathsThatDiffer: when the path of one slice gets slow, a session that
// sprays goes on with flowlets, says so, and sprays again when it is over;
// what is transferred meanwhile arrives whole (patent, step 4a).
func TestPathsThatDiffer(t *testing.T) { unspoiled(t, testPathsThatDiffer) }

func testPathsThatDiffer(t *testing.T) {
	const slow = 40 * time.Millisecond // each way
	m := newMesh(t, 4)
	m.watch("client")
	relay := m.behindRelay(m.nodes[3])
	m.up()
	m.connect("--slice-mode", "burst")
	m.measured(3)
	trickle := m.transfer(lab.Plan{Pace: 2}) // keeps the probes frequent
	settled := func(calmed bool, least uint32) time.Duration {
		return m.Until(fmt.Sprintf("the mode follows the paths, calmed %v", calmed), 20*time.Second, func() error {
			s, err := m.session()
			if err == nil && (s.Skew == 0 || (s.Calmed != "") != calmed || s.Skew < least) {
				err = fmt.Errorf("paths differ by less than %d ms: %q", s.Skew, s.Calmed)
			}
			return err
		})
	}
	t.Logf("paths alike: known after %v", settled(false, 0))
	cost := m.quiet()
	relay.Delay(slow)
	took := settled(true, uint32((2 * slow).Milliseconds()))
	t.Logf("one path slower by %v there and back: calmed after %v", 2*slow, took)
	m.want(lab.InTime("calming", took, cost.Stall(), 2*time.Second))
	for _, down := range []bool{false, true} {
		r := m.transfer(lab.Plan{Bytes: 20_000_000, Down: down}).Wait(within(time.Minute))
		t.Logf("down %v: %v", down, r)
		if err := r.Check(); err != nil {
			t.Errorf("down %v: %v", down, err)
		}
	}
	relay.Delay(0)
	t.Logf("paths alike again: sprayed after %v", settled(false, 0))
	if err := trickle.Finish(within(10 * time.Second)).Check(); err != nil {
		t.Error(err)
	}
}

// behindRelay takes a node off the switch outside and puts it behind a relay.
func (m *mesh) behindRelay(n *host) *lab.Relay {
	m.Helper()
	const plain = "tx off tso off gso off tx-udp-segmentation off"
	m.wan.Sh("ip link set %s nomaster; ip link add near type veth peer name far; ip link set near up", n.Name)
	m.wan.Sh("ip link set far master sw0 up; ethtool -K far %s >/dev/null", plain)
	n.Sh("ethtool -K out %s >/dev/null", plain)
	return m.wan.Relay(n.Name, "near")
}
