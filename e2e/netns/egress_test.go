//go:build e2e

package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// egressOutage is how long packets may stay away when the egress must move.
const egressOutage = 4 * time.Second

// egressFault is what other software does to an egress's host, again and again
// if that lasts.
type egressFault struct {
	name string
	once string // done at the beginning
	loop string // done ten times a second until the end
	undo string
	says string // in the status of the node; of a daemon that ended, as its last words
}

var egressFaults = []egressFault{
	{name: "FORWARD policy drop", once: policyDrop, undo: "nft delete table ip hostfw", says: "chain forward of the table ip hostfw"},
	{name: "the pool's routes deleted", loop: "ip route flush proto 109", says: "leave by"},
	{name: "ip_forward 0", loop: "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_forward=0", undo: "sysctl -qw net.ipv4.ip_forward=1", says: "does not forward"},
	{name: "the TUN set down", loop: "ip link set mesh0 down", says: "the interface of meshcrypt again and again"},
	{name: "the inside address taken away",
		loop: "for a in 201 202 203 204; do ip address del 10.20.0.$a/32 dev mesh0 2>/dev/null; done", says: "the address of meshcrypt again and again"},
	{name: "nft flush ruleset", loop: "nft flush ruleset", says: "the fence of meshcrypt again and again"},
	{name: "the TUN deleted", once: "ip link del mesh0", says: "the interface was removed by other software; the daemon ends"},
}

// TestEgressMoves: whatever takes an egress's path, filter or address away and
// keeps doing so, a whole node is egress within the outage, and stays so; the
// host at fault says what is wrong, and no other host is told to look at its own.
func TestEgressMoves(t *testing.T) {
	t.Parallel()
	faults := egressFaults
	if os.Getenv(envMatrix) != "all" {
		faults = faults[:2]
	}
	for i := 0; i < len(faults); i += 2 {
		// Two in one mesh: then no third host is whole for a minute.
		two := faults[i:min(i+2, len(faults))]
		t.Run(two[0].name, func(t *testing.T) { testEgressMoves(t, two) })
	}
}

func testEgressMoves(t *testing.T, faults []egressFault) {
	m := newMesh(t, 3)
	m.up()
	m.connectBusy("--slice-mode", "burst")
	for _, fault := range faults {
		m.moveEgress(fault)
	}
}

// moveEgress does one fault to the session's egress, and undoes it.
func (m *mesh) moveEgress(fault egressFault) {
	m.Helper()
	from := m.egress()
	k := m.talk("ping")
	time.Sleep(500 * time.Millisecond)
	if fault.once != "" {
		from.Sh("%s", fault.once)
	}
	var loop *lab.Process
	if fault.loop != "" {
		loop = from.Start(from.Name+"-fault", nil, "sh", "-c", "while :; do "+fault.loop+"; sleep 0.1; done")
	}
	var to *host
	took := m.Until(fault.name+": the egress moves from "+from.Name, 10*time.Second, func() error {
		if to = m.egress(); to == from {
			return fmt.Errorf("it is still there: %s", strings.Join(problemsOf(from), "; "))
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	k.stopTalking()
	said := strings.Join(problemsOf(from), "; ")
	if !from.process.Running() {
		said = from.process.Tail(2)
	}
	m.t.Logf("%s: from %s to %s within %v, %d echoes, none for at most %v; %s says: %s", fault.name, from.Name, to.Name,
		took.Round(100*time.Millisecond), k.answered, k.gap.Round(time.Millisecond), from.Name, said)
	if k.gap > egressOutage {
		m.t.Errorf("%s: no answer for %v", fault.name, k.gap)
	}
	if !strings.Contains(said, fault.says) {
		m.t.Errorf("%s: the status of %s lacks %q: %s", fault.name, from.Name, fault.says, said)
	}
	m.staysWell(fault, from, to)
	if loop != nil {
		loop.Kill()
	}
	if fault.undo != "" {
		from.Sh("%s", fault.undo)
	}
}

// staysWell: the part stays, and the healthy hosts are not told to look at their
// own firewalls.
func (m *mesh) staysWell(fault egressFault, from, to *host) {
	m.Helper()
	for range 4 {
		time.Sleep(500 * time.Millisecond)
		if now := m.egress(); now != to {
			m.t.Errorf("%s: the egress went on to %s", fault.name, now.Name)
		}
	}
	for _, n := range m.nodes {
		if n == from {
			continue
		}
		for _, said := range problemsOf(n) {
			if !strings.HasPrefix(said, from.Name+" ") && !strings.Contains(said, "from "+from.Name) &&
				!strings.HasPrefix(said, "the voter "+from.Name+" is silent") {
				m.t.Errorf("%s at %s: healthy %s says: %s", fault.name, from.Name, n.Name, said)
			}
		}
	}
}

// egress is where replies to the session arrive, as the registry has it.
func (m *mesh) egress() (at *host) {
	m.Helper()
	m.Until("an egress", 10*time.Second, func() error {
		s, err := m.session()
		if err == nil {
			at = m.node(s.Egress)
		}
		return err
	})
	return at
}

func problemsOf(h *host) []string {
	s, err := h.status()
	if err != nil {
		return []string{err.Error()}
	}
	return s.Problems
}

// stopTalking ends a talk without judging it.
func (k *talk) stopTalking() {
	k.close()
	k.mu.Lock()
	defer k.mu.Unlock()
}
