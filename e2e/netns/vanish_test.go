//go:build e2e

package netns

import (
	"fmt"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// vanished is a host that loses its links and then its process, as when its power
// fails: nobody hears a goodbye, a reset or an ICMP error of it. That it is silent
// is all there is to notice.
var vanished = death{how: "loss", pace: partPace, strike: func(m *mesh, v *host) {
	m.wan.Sh("ip link set %s down", v.Name)
	m.lan.Sh("ip link set %s down", v.Name)
	v.process.Kill()
}, while: gone, mend: func(m *mesh, v *host) {
	m.wan.Sh("ip link set %s up", v.Name)
	m.lan.Sh("ip link set %s up", v.Name)
	v.start("run")
}}

// powerOff is that of a host which has one role alone.
func powerOff(role string) death {
	d := vanished
	d.fault = role + "'s host powered off"
	return d
}

// TestHostVanishes: the client notices by silence alone that an agent is gone, or a
// gateway, and the second that an egress is; traffic goes on within the limit of a kill
// that all hear of.
func TestHostVanishes(t *testing.T) {
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(3)
	for _, who := range []struct {
		name   string
		victim func(*mesh) (*host, error)
	}{{"agent", (*mesh).mereAgent}, {"gateway", (*mesh).mereGatewayNow}, {"egress", (*mesh).mereEgress}} {
		for try := range tries(t) {
			if err := lab.Again(m.t, func() error {
				_, err := m.dieOnce(try, 3, agentStall, powerOff(who.name), who.victim)
				return err
			}); err != nil {
				t.Errorf("%s, try %d: %v", who.name, try+1, err)
			}
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

// mereGatewayNow is the gateway in use when that neither leads nor is the egress;
// if it is, the client is made to enter by another.
func (m *mesh) mereGatewayNow() (*host, error) {
	r, err := m.rolesInUse()
	if err != nil {
		return nil, err
	}
	if r.gateway != r.leader && r.gateway != r.session.Egress {
		return m.node(r.gateway), nil
	}
	v := m.mereGateway(r)
	if v == nil {
		return nil, fmt.Errorf("no gateway without another role: %v", r)
	}
	return nil, fmt.Errorf("the client has moved to %s just now: %v", v.Name, r)
}

// mereEgress is the session's egress when that neither leads nor is the gateway in use;
// if it is, another one is made to lead, or the client to enter by another.
func (m *mesh) mereEgress() (*host, error) {
	r, err := m.rolesInUse()
	switch {
	case err != nil:
		return nil, err
	case r.gateway == r.session.Egress:
		m.mereGateway(r)
		return nil, fmt.Errorf("the client has moved just now: %v", r)
	case r.leader == r.session.Egress:
		return nil, m.leadElsewhere(r.leader)
	}
	return m.node(r.session.Egress), nil
}

// leadElsewhere has a voter lead that is none of these, and says that it tried.
func (m *mesh) leadElsewhere(leader string, not ...string) error {
	m.Helper()
	members, err := m.members()
	if err != nil {
		return err
	}
	for _, member := range members {
		if member.Voter && member.Name != leader && !slices.Contains(not, member.Name) {
			m.node(leader).try("operator", "raft", "transfer-leader", member.Name)
			return fmt.Errorf("%s is to lead after %s", member.Name, leader)
		}
	}
	return fmt.Errorf("no voter but %s can lead", leader)
}
