//go:build e2e

package netns

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// pourFlows is how many flows come down over a session's slices, each over one, and pourEvery
// how often a packet of each: no slice of a few is without.
const (
	pourFlows = 32
	pourEvery = 20 * time.Millisecond
)

// pour has the destination send the client what nobody need acknowledge, until end.
func (m *mesh) pour() (end func()) {
	m.Helper()
	var flows []net.Conn
	to := netip.AddrPortFrom(netip.MustParseAddr(m.lease()), 9)
	if err := m.dest.Do(func() error {
		for range pourFlows {
			flow, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			flows = append(flows, flow)
		}
		return nil
	}); err != nil {
		m.Fatalf("flows to the client: %v", err)
	}
	stop, done := make(chan struct{}), sync.WaitGroup{}
	done.Go(func() {
		for tick := time.NewTicker(pourEvery); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
			for _, flow := range flows {
				_, _ = flow.Write([]byte("nobody listens")) // as its host says now and then
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stop)
		done.Wait()
		for _, flow := range flows {
			flow.Close()
		}
	})
}

// TestClientUnheard: nothing of a client arrives at its gateway any more, by a filter that
// somebody put between the two, and all that comes down does: life of every slice. It leaves.
func TestClientUnheard(t *testing.T) {
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(3)
	for try := range tries(t) {
		if err := lab.Again(t, m.clientUnheard); err != nil {
			t.Errorf("try %d: %v", try+1, err)
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

func (m *mesh) clientUnheard() error {
	m.Helper()
	const fault = "client is not heard by its gateway"
	m.slices(3)
	w := m.pacedBoth()
	end := m.pour()
	defer end()
	r := m.settledRoles()
	cost := m.quiet()
	w.forget()
	m.wan.Sh("nft add table inet unheard; nft 'add chain inet unheard forward { type filter hook forward priority 0; }'")
	m.wan.Sh("nft add rule inet unheard forward ip saddr %s ip daddr %s drop", m.client.outer, m.node(r.gateway).outer)
	time.Sleep(cutShort)
	stall, beside := w.stall(), cost.Stall()
	now := m.gateway()
	m.wan.Sh("nft delete table inet unheard")
	m.t.Logf("%s (%v): stall down %d ms, up %d ms, of the flow beside %d ms; then by %s", fault, r,
		w.down.Stall().Milliseconds(), w.up.Stall().Milliseconds(), beside.Milliseconds(), now)
	stays := error(nil)
	if now == r.gateway {
		stays = fmt.Errorf("the client stays with %s", now)
	}
	return cmp.Or(unbroken(fault, w.finish()...), errors.Join(stays, took(fault, "stall", stall, beside, cutStall)))
}
