//go:build e2e

package netns

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
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

// logged waits until the client has said so.
func (m *mesh) logged(what string, limit time.Duration) {
	m.Helper()
	m.Until("the client says "+what, limit, func() error {
		if r := m.client.Try(nil, "grep", "-q", what, m.client.process.Log); r.Code != 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
}

// TestUDPBlockedFromTheStart: a client connects and carries both ways by TLS alone.
func TestUDPBlockedFromTheStart(t *testing.T) {
	m := newMesh(t, 3)
	m.up()
	m.blockUDP()
	m.watch("client")
	t.Logf("connected after %v", m.connect("--slice-mode", "burst"))
	m.slices(2)
	for _, plan := range []lab.Plan{{Bytes: 30 << 20}, {Bytes: 30 << 20, Down: true}} {
		r := m.transfer(plan).Wait(within(time.Minute))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestUDPBlockedMidTransfer: to TLS, and back when UDP answers again.
func TestUDPBlockedMidTransfer(t *testing.T) {
	m := newMesh(t, 3)
	m.up()
	m.watch("client")
	m.connect("--slice-mode", "burst")
	m.slices(2)
	b := m.steady()
	b.during("UDP is blocked", tlsStall, m.blockUDP)
	m.logged("UDP is silent; packets go over TLS", time.Second)
	b.during("UDP is free again", tlsStall, func() {
		m.freeUDP()
		m.logged("UDP answers again", 10*time.Second)
	})
	b.during("UDP is blocked again", tlsStall, m.blockUDP)
	b.finish()
}
