//go:build e2e

package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
)

// jumbo makes every link of the world carry 9000 bytes.
func (m *mesh) jumbo() {
	m.Helper()
	all := append([]*lab.Space{m.wan, m.lan, m.dest, m.client.Space}, spaces(m.nodes)...)
	for _, s := range all {
		s.Sh(`for d in $(ls /sys/class/net); do [ $d = lo ] || [ $d = sw0 ] || ip link set $d mtu 9000; done
			[ ! -e /sys/class/net/sw0 ] || ip link set sw0 mtu 9000`)
	}
}

func spaces(hosts []*host) (all []*lab.Space) {
	for _, h := range hosts {
		all = append(all, h.Space)
	}
	return all
}

// access sets the MTU of a host's outer link, at both ends.
func (m *mesh) access(h *host, mtu int) {
	m.Helper()
	h.Sh("ip link set out mtu %d", mtu)
	m.wan.Sh("ip link set %s mtu %d", h.Name, mtu)
}

// tunnelMTU waits until the client's TUN has the MTU.
func (m *mesh) tunnelMTU(want int, within time.Duration) time.Duration {
	m.Helper()
	return m.Until(fmt.Sprintf("an MTU of %d in the tunnel", want), within, func() error {
		if got := m.client.Sh("cat /sys/class/net/mesh0/mtu"); got != fmt.Sprint(want) {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// offered is what a session offers over outer links of an MTU.
func offered(outer int) int { return max(pmtu.MinMTU, pmtu.Inner(outer, false)) }

// TestMTU: the tunnel carries what the path does, from links of 1280 bytes to
// those of 9000, found out within a second, and says how much that is to who
// sends more, from outside and from inside.
func TestMTU(t *testing.T) {
	m := newMesh(t, 2)
	m.jumbo()
	m.up()
	for _, outer := range []int{1280, 1400, 1500, 9000} {
		t.Run(fmt.Sprint(outer), func(t *testing.T) {
			m.access(m.client, outer)
			m.dest.Sh("ip route flush cache") // hosts remember for ten minutes what they were told
			m.connect("--slice-mode", "burst")
			m.slices(2)
			took := m.tunnelMTU(offered(outer), 5*time.Second)
			for _, plan := range []lab.Plan{{Bytes: 20 << 20}, {Bytes: 20 << 20, Down: true}} {
				r := m.transfer(plan).Wait(within(30 * time.Second))
				t.Logf("tunnel MTU %d after %v, down %v: %v", offered(outer), took, plan.Down, r)
				if err := r.Check(); err != nil {
					t.Error(err)
				}
			}
			m.pings(t, offered(outer))
			m.disconnect()
		})
	}
}

func (m *mesh) disconnect() {
	m.Helper()
	if !m.client.process.Terminate(5 * time.Second) {
		m.Fatalf("the client does not end")
	}
}

// pings sends the largest packet both ways, and one that is a byte larger.
func (m *mesh) pings(t *testing.T, mtu int) {
	t.Helper()
	lease := m.lease()
	for _, way := range []struct {
		from *lab.Space
		to   string
	}{{m.client.Space, destination}, {m.dest, lease}} {
		fits := way.from.Try(nil, "ping", "-c1", "-W2", "-Mdo", "-s", fmt.Sprint(mtu-28), way.to)
		if fits.Code != 0 {
			t.Errorf("%d bytes from %s do not pass: %s%s", mtu, way.from.Name, fits.Out, fits.Stderr)
		}
		if mtu >= 8900 {
			continue // the sender's own link says no before
		}
		over := way.from.Try(nil, "ping", "-c2", "-i0.3", "-W2", "-Mdo", "-s", fmt.Sprint(mtu-27), way.to)
		if said := over.Out + over.Stderr; over.Code == 0 || !strings.Contains(said, fmt.Sprintf("mtu = %d", mtu)) && !strings.Contains(said, fmt.Sprintf("mtu=%d", mtu)) {
			t.Errorf("%d bytes from %s are not refused with an MTU of %d: %s", mtu+1, way.from.Name, mtu, said)
		}
	}
}

// lease is the client's IPv4 address in the tunnel.
func (m *mesh) lease() string {
	m.Helper()
	out := m.client.Sh("ip -4 -o address show dev mesh0")
	address, _, _ := strings.Cut(strings.Fields(out)[3], "/")
	return address
}
