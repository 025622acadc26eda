//go:build e2e

package netns

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// What a flood must not do.
const (
	floodRate    = 105_000 // a second asked for, so that 100,000 go out
	floodAtLeast = 100_000
	floodRounds  = 3
	floodPace    = 200 // Mbit/s of the transfer
	floodTime    = 2 * time.Second
	floodFrames  = 4096 // different ones
	floodReplays = 512  // captured ones
	goodputLeast = 0.8
	growthMost   = 64 << 20 // bytes of RSS, all processes together
	closedPort   = 6999
)

// TestFloods: 100,000 packets a second at a node's port, beside a transfer
// that enters the mesh there. The transfer keeps what it has when the same
// packets go to a port where nobody listens; each packet is counted under a
// name; no process grows.
func TestFloods(t *testing.T) {
	m := newMesh(t, 2)
	m.up()
	taken := m.wan.Collect("client", 6484, floodReplays)
	m.connect("--slice-mode", "burst")
	m.slices(2)
	wire := m.wan.Towards("n1", m.nodes[0].outer) // not yet behind the bridge
	going := m.transfer(lab.Plan{Pace: floodPace})
	m.Until("datagrams to replay", 20*time.Second, func() error {
		if n := len(taken.Datagrams()); n < floodReplays {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	for _, f := range []struct {
		name   string
		least  float64 // of the goodput that a flood of a closed port leaves
		frames func(port uint16) [][]byte
	}{
		{"garbage", goodputLeast, func(port uint16) [][]byte { return m.garbageFrames(wire, port) }},
		{"spoofed", goodputLeast, func(port uint16) [][]byte { return m.spoofedFrames(wire, port) }},
		{"replays", goodputLeast, func(port uint16) [][]byte { return m.replayFrames(wire, port, taken.Datagrams(), stranger) }},
		// These share the client's own queue (docs/attacks.md, what is left):
		// nothing gets through and nothing breaks, but it costs throughput.
		{"replays-as-the-client", 0, func(port uint16) [][]byte { return m.replayFrames(wire, port, taken.Datagrams(), nil) }},
	} {
		t.Run(f.name, func(t *testing.T) { m.flood(t, going, f.frames(6484), f.frames(closedPort), f.least) })
	}
	m.wantFlagged(t, "auth")
	if r := going.Finish(within(20 * time.Second)); r.Check() != nil {
		t.Error(r)
	} else {
		t.Log(r)
	}
}

// wantFlagged holds that the arbiter, and so an operator, knows what was tried.
func (m *mesh) wantFlagged(t *testing.T, reason string) {
	t.Helper()
	members, err := m.members()
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range members {
		for _, v := range member.Violations {
			t.Logf("%s flagged %d of %s, the last from %v", member.Name, v.Count, v.Reason, v.Source)
			if v.Reason == reason && v.Count > 1000 && v.Source.IsValid() {
				return
			}
		}
	}
	t.Errorf("no violation for %s is known: %+v", reason, members)
}

// flood sends both floods in turn and compares what the transfer had of each.
func (m *mesh) flood(t *testing.T, going *lab.Transfer, open, closed [][]byte, least float64) {
	var under, beside []float64
	before := m.resident()
	for range floodRounds {
		beside = append(beside, m.floodOnce(t, going, closed, false))
		under = append(under, m.floodOnce(t, going, open, true))
	}
	growth := m.resident() - before
	ratio := median(under) / median(beside)
	t.Logf("goodput %.0f Mbit/s, %.0f while the flood goes to a closed port: %.2f; RSS grew by %.1f MiB",
		median(under), median(beside), ratio, float64(growth)/(1<<20))
	if ratio < least {
		t.Errorf("goodput fell to %.2f", ratio)
	}
	if growth > growthMost {
		t.Errorf("RSS grew by %d bytes", growth)
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// floodOnce gives the transfer's Mbit/s during one flood, and checks that the
// product counted each packet of it.
func (m *mesh) floodOnce(t *testing.T, going *lab.Transfer, frames [][]byte, counted bool) float64 {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	dropped, lost := m.drops(), m.wan.Counter("n1", "tx_dropped")
	f := m.wan.Flood("n1", frames, floodRate)
	time.Sleep(200 * time.Millisecond)
	begin, had := time.Now(), going.Received()
	time.Sleep(floodTime)
	goodput := float64(going.Received()-had) * 8 / 1e6 / time.Since(begin).Seconds()
	sent, rate, err := f.End()
	if err != nil || rate < floodAtLeast {
		t.Errorf("the flood was of %.0f packets a second: %v", rate, err)
	}
	if counted {
		time.Sleep(300 * time.Millisecond)
		m.checkCounts(t, sent, dropped, m.drops(), m.wan.Counter("n1", "tx_dropped")-lost)
	}
	return goodput
}

// checkCounts holds that reasons and overflow counters name every packet sent.
func (m *mesh) checkCounts(t *testing.T, sent uint64, before, after map[string]uint64, link uint64) {
	t.Helper()
	counted := link
	var list []string
	for reason, n := range after {
		if n -= before[reason]; n > 0 {
			counted += n
			list = append(list, fmt.Sprint(reason, " ", n))
		}
	}
	slices.Sort(list)
	t.Logf("%d sent, %d counted: link %d, %s", sent, counted, link, strings.Join(list, ", "))
	if counted < sent || counted > sent+sent/100 {
		t.Errorf("%d packets were sent and %d are counted", sent, counted)
	}
}

// drops sums the reasons of all nodes.
func (m *mesh) drops() map[string]uint64 {
	m.Helper()
	all := make(map[string]uint64)
	for _, n := range m.nodes {
		status, err := n.status()
		if err != nil {
			m.Fatalf("%v", err)
		}
		for reason, count := range status.Dropped {
			all[reason] += count
		}
	}
	return all
}

// resident is the memory of all processes of the mesh.
func (m *mesh) resident() (bytes int64) {
	m.Helper()
	return m.residentNodes() + m.residentOf(m.client)
}

func (m *mesh) residentOf(h *host) (bytes int64) {
	m.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", h.process.PID()))
	if err != nil {
		m.Fatalf("%v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		m.Fatalf("%v", err)
	}
	return pages * int64(os.Getpagesize())
}

// stranger is one of very many addresses of the internet.
func stranger(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), byte(1 + i%250)}), uint16(1024+i))
}

func (m *mesh) target(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(m.nodes[0].outer), port)
}

func (m *mesh) garbageFrames(w lab.Wire, port uint16) (frames [][]byte) {
	random := rand.New(rand.NewPCG(6484257, 2))
	for i := range floodFrames {
		frames = append(frames, w.Datagram(stranger(i%256), m.target(port), garbage(random, i)))
	}
	return frames
}

// spoofedFrames are what somebody makes who has seen the wire: the SPIs are
// real, the sequence numbers to come, the sizes usual, the sources anybody's.
func (m *mesh) spoofedFrames(w lab.Wire, port uint16) (frames [][]byte) {
	random := rand.New(rand.NewPCG(6484257, 3))
	var spis []uint32
	for _, s := range m.slices(2).Slices {
		spi, err := strconv.ParseUint(strings.TrimPrefix(s.SPI, "0x"), 16, 32)
		if err != nil {
			m.Fatalf("%v", err)
		}
		spis = append(spis, uint32(spi))
	}
	for i := range floodFrames {
		p := make([]byte, 1452)
		for j := range p {
			p[j] = byte(random.Uint32())
		}
		sequence := uint32(1<<24 + i)
		binary.BigEndian.PutUint32(p, spis[i%len(spis)])
		binary.BigEndian.PutUint32(p[4:], sequence)
		binary.BigEndian.PutUint64(p[8:], uint64(sequence))
		if i%8 == 0 { // an Accept for it
			p = p[:1230]
			clear(p[:12])
			p[4], p[5] = 2, 1
			binary.BigEndian.PutUint32(p[8:], spis[i/8%len(spis)])
		}
		frames = append(frames, w.Datagram(stranger(i), m.target(port), p))
	}
	return frames
}

// replayFrames are what the client sent, from whoever it is or from itself.
func (m *mesh) replayFrames(w lab.Wire, port uint16, taken []lab.Datagram, source func(int) netip.AddrPort) (frames [][]byte) {
	for i, d := range taken {
		from := d.From
		if source != nil {
			from = source(i)
		}
		frames = append(frames, w.Datagram(from, m.target(port), d.Payload))
	}
	return frames
}
