//go:build e2e

package netns

import (
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

const (
	halfOpen     = 50_000 // connections asked for and left
	halfOpenRate = 25_000 // a second
	slowHellos   = 400    // connections held with a hello that does not end
	loginWithin  = 5 * time.Second
)

// TestHostileConnections: half-open connections from everywhere, hellos that
// never end and garbage as fast as one host can, all at the node's one TCP
// port. A client logs in beside them in time, a transfer goes on, and what was
// turned away is counted.
func TestHostileConnections(t *testing.T) { unspoiled(t, testHostileConnections) }

func testHostileConnections(t *testing.T) {
	m := newMesh(t, 2)
	m.up()
	m.admit()
	wire := m.wan.Towards("n1", m.nodes[0].outer)
	before := m.residentNodes()
	var syns [][]byte
	for i := range floodFrames {
		syns = append(syns, wire.SYN(stranger(i), m.target(6484)))
	}
	h := m.harass(m.nodes[0].outer + ":6484")
	cost := m.quiet()
	flood := m.wan.Flood("n1", syns, halfOpenRate)
	took := m.connect()
	going := m.transfer(lab.Plan{Pace: 50})
	for flood.Sent() < halfOpen {
		time.Sleep(10 * time.Millisecond)
	}
	sent, rate, err := flood.End()
	beside := cost.Stall()
	garbage := h.end()
	growth := m.residentNodes() - before
	t.Logf("%d SYN at %.0f a second, %d slow hellos, %d of garbage; logged in after %v; RSS grew by %.1f MiB",
		sent, rate, slowHellos, garbage, took, float64(growth)/(1<<20))
	if err != nil {
		t.Error(err)
	}
	if growth > growthMost {
		t.Errorf("RSS grew by %d bytes", growth)
	}
	if r := going.Finish(within(20 * time.Second)); r.Check() != nil {
		t.Error(r)
	} else {
		t.Log(r)
		m.want(lab.InTime("stall beside the attack", r.Stall, beside, 2*time.Second))
	}
	m.want(lab.InTime("a login", took, beside, loginWithin))
	m.turnedAway(t, garbage)
}

// harassment is one host's hostile connections to a port.
type harassment struct {
	slow    []net.Conn
	stop    chan struct{}
	group   sync.WaitGroup
	garbage atomic.Uint64
}

// harass opens hellos that do not end, and keeps sending what is none.
func (m *mesh) harass(address string) *harassment {
	m.Helper()
	h := &harassment{stop: make(chan struct{})}
	err := m.wan.Do(func() error {
		for range slowHellos {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			h.slow = append(h.slow, conn)
			_, _ = conn.Write([]byte{22, 3, 1}) // it may be closed already
		}
		return nil
	})
	if err != nil {
		m.Fatalf("%v", err)
	}
	h.group.Go(func() {
		_ = m.wan.Do(func() error {
			for {
				select {
				case <-h.stop:
					return nil
				default:
				}
				conn, err := net.DialTimeout("tcp", address, time.Second)
				if err != nil {
					continue // the backlog is full of others
				}
				_, _ = conn.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage, and more of it"))
				conn.Close()
				h.garbage.Add(1)
			}
		})
	})
	return h
}

func (h *harassment) end() (garbage uint64) {
	close(h.stop)
	h.group.Wait()
	for _, conn := range h.slow {
		conn.Close()
	}
	return h.garbage.Load()
}

// turnedAway holds that the node counted what it closed, by name.
func (m *mesh) turnedAway(t *testing.T, garbage uint64) {
	t.Helper()
	status, err := m.nodes[0].status()
	if err != nil {
		t.Fatal(err)
	}
	var counted uint64
	var list []string
	for reason, n := range status.Dropped {
		if strings.HasPrefix(reason, "tcp-") {
			counted += n
			list = append(list, reason)
		}
	}
	slices.Sort(list)
	t.Logf("%d connections turned away: %v", counted, list)
	if counted < garbage+slowHellos {
		t.Error("not every connection that was closed is counted")
	}
}

// residentNodes is the memory of the nodes alone.
func (m *mesh) residentNodes() (bytes int64) {
	for _, n := range m.nodes {
		bytes += m.residentOf(n)
	}
	return bytes
}
