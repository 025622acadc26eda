//go:build e2e

package netns

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// tlsStall is how long a transfer may stand when UDP goes silent under it: the
// silence itself, the wait for another gateway, the handshake, and TCP's own
// retransmission inside.
const tlsStall = 3 * time.Second

// blockUDP lets no UDP through the router, and says nothing about it.
func (m *mesh) blockUDP() {
	m.wan.Sh("nft add table ip block; nft add chain ip block forward '{ type filter hook forward priority 0; }'; " +
		"nft add rule ip block forward iifname client meta l4proto udp drop; nft add rule ip block forward oifname client meta l4proto udp drop")
}

func (m *mesh) freeUDP() { m.wan.Sh("nft delete table ip block") }

func (m *mesh) clientStatus() (control.ClientStatus, error) {
	return ask[control.ClientStatus](m.client, "status", "--run-dir", m.File("client", "run"))
}

// transport waits until the client's status says that packets go by it.
func (m *mesh) transport(want string, limit time.Duration) {
	m.Helper()
	m.Until("packets go by "+want, limit, func() error {
		s, err := m.clientStatus()
		if err != nil {
			return err
		}
		for _, g := range s.Gateways {
			if g.InUse && g.Transport == want {
				return nil
			}
		}
		return fmt.Errorf("%+v", s.Gateways)
	})
}

// TestUDPBlockedFromTheStart: a client connects and carries both ways by TLS alone, and
// after it has parked, too.
func TestUDPBlockedFromTheStart(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3)
	m.parksSoon()
	m.up()
	m.blockUDP()
	m.watch("client")
	t.Logf("connected after %v", m.connect("--slice-mode", "burst"))
	m.slices(2)
	m.transport("tls", time.Second)
	t.Logf("status:\n%s", m.client.must("status", "--run-dir", m.File("client", "run")))
	for _, plan := range []lab.Plan{{Bytes: 30 << 20}, {Bytes: 30 << 20, Down: true}} {
		r := m.transfer(plan).Wait(within(time.Minute))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
	m.parked()
	for _, down := range []bool{true, false} {
		if took, err := m.begins(down); err != nil || took > parkedStall {
			t.Errorf("parked, from inside %v: %v, %v", down, took, err)
		}
	}
	m.transport("tls", time.Second)
	m.parked()
}

// TestUDPBlockedMidTransfer: to TLS, and back when UDP answers again.
func TestUDPBlockedMidTransfer(t *testing.T) { unspoiled(t, testUDPBlockedMidTransfer) }

func testUDPBlockedMidTransfer(t *testing.T) {
	m := newMesh(t, 3)
	m.up()
	m.watch("client")
	m.connect("--slice-mode", "burst")
	m.slices(2)
	b := m.steady()
	b.during("UDP is blocked", tlsStall, m.blockUDP)
	m.transport("tls", time.Second)
	b.during("UDP is free again", tlsStall, func() {
		m.freeUDP()
		m.transport("udp", 10*time.Second)
	})
	b.during("UDP is blocked again", tlsStall, m.blockUDP)
	m.transport("tls", time.Second)
	b.finish()
}
