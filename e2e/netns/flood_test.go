//go:build e2e

package netns

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
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
	floodMost    = 9   // rounds, where fewer show less than is asked for
	floodTries   = 8   // of a round in which the attacker was too slow
	floodPace    = 200 // Mbit/s of the transfer
	floodTime    = 500 * time.Millisecond
	queuedMost   = 10 * time.Second // of a flood's last packet
	floodFrames  = 4096             // different ones
	floodReplays = 512              // captured ones
	floodAnswers = 64               // captured ones of what goes to the client
	goodputLeast = 0.8
	growthMost   = 64 << 20 // bytes of RSS, all processes together
	closedPort   = 6999
	toCome       = 1 << 24 // a sequence number that no transfer here reaches
	inStepAhead  = 1 << 18 // packets of some seconds
)

// TestFloods: 100,000 packets a second at a node's port, and at the client's,
// beside a transfer that enters the mesh there. The transfer keeps what it has
// when the same packets go to a port where nobody listens; each packet is
// counted under a name; no process grows.
//
// make e2e shows the same beside a transfer that takes whatever is left of the
// machine, which holds every host and the attacker: what a flood costs there is
// time of its processors, and that is no host's measure.
func TestFloods(t *testing.T) {
	t.Run("paced", func(t *testing.T) { testFloods(t, floodPace, goodputLeast) })
	if os.Getenv(envMatrix) == "all" {
		t.Run("unpaced", func(t *testing.T) { testFloods(t, 0, 0) })
	}
}

// flood is packets of one kind, for a port that is open or for one that is not.
type flood struct {
	name   string
	frames func(port uint16) [][]byte
	// dear ones have to be opened to be told from a peer's own (docs/attacks.md,
	// what is left): their cost is shown by make e2e.
	dear bool
}

// floods are all that were asked for.
func (m *mesh) floods(t *testing.T, device string, going *lab.Transfer, port uint16, least float64, all []flood) {
	t.Helper()
	for _, f := range all {
		least := least
		if f.dear {
			least = 0
		}
		if !f.dear || os.Getenv(envMatrix) == "all" {
			t.Run(f.name, func(t *testing.T) { m.flood(t, device, going, f, port, least) })
		}
	}
}

func testFloods(t *testing.T, pace, least float64) {
	// The attacker is another machine, and waits for no turn in this process.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 4))
	m := newMesh(t, 2)
	m.up()
	sent := m.wan.Collect("client", 6484, floodReplays)
	m.connect("--slice-mode", "burst")
	m.slices(2)
	up := m.transfer(lab.Plan{Pace: pace})
	m.collected(sent, floodReplays)
	m.floods(t, "n1", up, 6484, least, m.floodsOfNode(sent.Datagrams()))
	m.wantFlagged(t, "auth")
	m.finished(t, up)
	down := m.transfer(lab.Plan{Pace: pace, Down: true})
	now := m.wan.Collect("client", 6484, 1) // its ports may be others than at first
	m.collected(now, 1)
	client := now.Datagrams()[0].From
	answers := m.wan.Collect("client", client.Port(), floodAnswers)
	m.collected(answers, floodAnswers)
	m.floods(t, "client", down, client.Port(), least, m.floodsOfClient(client, answers.Datagrams()))
	m.finished(t, down)
}

// nextSequence is one that will come within some seconds at a port behind a
// link, as somebody knows who reads along.
func (m *mesh) nextSequence(link string, port uint16) uint32 {
	m.Helper()
	const enough = 16 // signs of life are few
	now := m.wan.Collect(link, port, enough)
	m.collected(now, enough)
	var newest uint32
	for _, d := range now.Datagrams() {
		if binary.BigEndian.Uint32(d.Payload) != 0 {
			newest = max(newest, binary.BigEndian.Uint32(d.Payload[4:]))
		}
	}
	return newest + inStepAhead
}

func (m *mesh) collected(c *lab.Collection, count int) {
	m.Helper()
	m.Until("datagrams to replay", 20*time.Second, func() error {
		if n := len(c.Datagrams()); n < count {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

func (m *mesh) finished(t *testing.T, going *lab.Transfer) {
	t.Helper()
	if r := going.Finish(within(20 * time.Second)); r.Check() != nil {
		t.Error(r)
	} else {
		t.Log(r)
	}
}

// floodsOfNode are those of strangers, and those in the client's name, which
// share its queue.
func (m *mesh) floodsOfNode(sent []lab.Datagram) []flood {
	wire := m.wan.Towards("n1", m.nodes[0].outer) // not yet behind the bridge
	at := m.target
	var spis []uint32
	client := map[uint32]netip.AddrPort{} // from which port it speaks under an SPI
	for _, s := range m.slices(2).Slices {
		spi, err := strconv.ParseUint(strings.TrimPrefix(s.SPI, "0x"), 16, 32)
		if err != nil {
			m.Fatalf("%v", err)
		}
		spis = append(spis, uint32(spi))
	}
	for _, d := range sent {
		client[binary.BigEndian.Uint32(d.Payload)] = d.From
	}
	itself := func(i int) netip.AddrPort { return client[spis[i%len(spis)]] }
	inStep := func() uint32 { return m.nextSequence("client", 6484) }
	return []flood{
		{name: "garbage", frames: func(port uint16) [][]byte { return garbageFrames(wire, at(port)) }},
		{name: "spoofed", frames: func(port uint16) [][]byte { return spoofedFrames(wire, at(port), spis, stranger, toCome) }},
		{name: "spoofed-as-the-client", dear: true, frames: func(port uint16) [][]byte { return spoofedFrames(wire, at(port), spis, itself, toCome) }},
		{name: "in-step-as-the-client", dear: true, frames: func(port uint16) [][]byte { return spoofedFrames(wire, at(port), spis, itself, inStep()) }},
		{name: "replays", frames: func(port uint16) [][]byte { return replayFrames(wire, at(port), sent, stranger) }},
		{name: "replays-as-the-client", frames: func(port uint16) [][]byte { return replayFrames(wire, at(port), sent, nil) }},
	}
}

// floodsOfClient come to one of its ports, from strangers and in the gateway's name.
func (m *mesh) floodsOfClient(client netip.AddrPort, answers []lab.Datagram) []flood {
	wire := m.wan.Towards("client", clientOuter)
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(client.Addr(), port) }
	spis := []uint32{binary.BigEndian.Uint32(answers[0].Payload)}
	gateway := func(int) netip.AddrPort { return answers[0].From }
	inStep := func() uint32 { return m.nextSequence("client", client.Port()) }
	return []flood{
		{name: "garbage-to-the-client", frames: func(port uint16) [][]byte { return garbageFrames(wire, at(port)) }},
		{name: "spoofed-to-the-client", frames: func(port uint16) [][]byte { return spoofedFrames(wire, at(port), spis, stranger, toCome) }},
		{name: "spoofed-as-the-gateway", frames: func(port uint16) [][]byte { return spoofedFrames(wire, at(port), spis, gateway, toCome) }},
		{name: "in-step-as-the-gateway", dear: true, frames: func(port uint16) [][]byte { return spoofedFrames(wire, at(port), spis, gateway, inStep()) }},
		{name: "replays-as-the-gateway", frames: func(port uint16) [][]byte { return replayFrames(wire, at(port), answers, nil) }},
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

// flood goes to an open port and to a closed one in turn; it compares what the
// transfer had of each.
func (m *mesh) flood(t *testing.T, device string, going *lab.Transfer, f flood, port uint16, least float64) {
	var under, beside []float64
	ratio := 0.0
	before := m.resident()
	// What else runs on the machine may spoil a round, and then some more do not hide anything.
	for len(under) < floodRounds || ratio < least && len(under) < floodMost {
		beside = append(beside, m.floodOnce(t, device, going, f.frames(closedPort), false))
		under = append(under, m.floodOnce(t, device, going, f.frames(port), true))
		ratio = median(under) / median(beside)
	}
	growth := m.resident() - before
	t.Logf("goodput %.0f Mbit/s, %.0f while the flood goes to a closed port: %.2f in %d rounds; RSS grew by %.1f MiB",
		median(under), median(beside), ratio, len(under), float64(growth)/(1<<20))
	if ratio < least {
		t.Errorf("goodput fell to %.2f", ratio)
	}
	if growth > growthMost {
		t.Errorf("RSS grew by %d bytes", growth)
	}
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// floodOnce gives the transfer's Mbit/s during one flood.
func (m *mesh) floodOnce(t *testing.T, device string, going *lab.Transfer, frames [][]byte, counted bool) float64 {
	t.Helper()
	for try := 1; ; try++ {
		goodput, rate := m.floodTry(t, device, going, frames, counted)
		if rate >= floodAtLeast {
			return goodput
		}
		if try == floodTries {
			t.Errorf("the flood was of %.0f packets a second; does much else run here?", rate)
			return goodput
		}
	}
}

// floodTry gives its rate too, and checks that the product counted each packet.
func (m *mesh) floodTry(t *testing.T, device string, going *lab.Transfer, frames [][]byte, counted bool) (goodput, rate float64) {
	t.Helper()
	time.Sleep(150 * time.Millisecond)
	dropped, lost := m.drops(), m.wan.Counter(device, "tx_dropped")
	f := m.wan.Flood(device, frames, floodRate)
	time.Sleep(100 * time.Millisecond)
	begin, had := time.Now(), going.Received()
	time.Sleep(floodTime)
	goodput = float64(going.Received()-had) * 8 / 1e6 / time.Since(begin).Seconds()
	sent, rate, err := f.End()
	if err != nil {
		t.Error(err)
	}
	if counted {
		m.checkCounts(t, sent, dropped, func() uint64 { return m.wan.Counter(device, "tx_dropped") - lost })
	}
	return goodput, rate
}

// checkCounts holds that reasons and overflow counters name every packet sent,
// as soon as the last of them is out of its queue.
func (m *mesh) checkCounts(t *testing.T, sent uint64, before map[string]uint64, link func() uint64) {
	t.Helper()
	var counted uint64
	var list []string
	for end := time.Now().Add(queuedMost); counted < sent && time.Now().Before(end); {
		time.Sleep(150 * time.Millisecond)
		counted, list = link(), nil
		list = append(list, fmt.Sprint("link ", counted))
		for reason, n := range m.drops() {
			if n -= before[reason]; n > 0 {
				counted += n
				list = append(list, fmt.Sprint(reason, " ", n))
			}
		}
	}
	slices.Sort(list)
	t.Logf("%d sent, %d counted: %s", sent, counted, strings.Join(list, ", "))
	if counted < sent || counted > sent+sent/100 {
		t.Errorf("%d packets were sent and %d are counted", sent, counted)
	}
}

// unlost is a link that never overflowed.
func unlost() uint64 { return 0 }

// drops sums the reasons of all nodes and of the client.
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
	status, err := m.clientStatus()
	if err != nil {
		m.Fatalf("%v", err)
	}
	for reason, count := range status.Dropped {
		all[reason] += count
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

func garbageFrames(w lab.Wire, to netip.AddrPort) (frames [][]byte) {
	random := rand.New(rand.NewPCG(6484257, 2))
	for i := range floodFrames {
		frames = append(frames, w.Datagram(stranger(i%256), to, garbage(random, i)))
	}
	return frames
}

// spoofedFrames are what somebody makes who has seen the wire: the SPIs are
// real, the sequence numbers to come from the first on, the sizes usual, the
// sources what he likes.
func spoofedFrames(w lab.Wire, to netip.AddrPort, spis []uint32, source func(int) netip.AddrPort, first uint32) (frames [][]byte) {
	random := rand.New(rand.NewPCG(6484257, 3))
	for i := range floodFrames {
		p := make([]byte, 1452)
		for j := range p {
			p[j] = byte(random.Uint32())
		}
		sequence := first + uint32(i)
		binary.BigEndian.PutUint32(p, spis[i%len(spis)])
		binary.BigEndian.PutUint32(p[4:], sequence)
		binary.BigEndian.PutUint64(p[8:], uint64(sequence))
		if i%8 == 0 { // an Accept for it
			p = p[:1230]
			clear(p[:12])
			p[4], p[5] = 2, 1
			binary.BigEndian.PutUint32(p[8:], spis[i/8%len(spis)])
		}
		frames = append(frames, w.Datagram(source(i), to, p))
	}
	return frames
}

// replayFrames are what was sent, from whoever it is or from the same.
func replayFrames(w lab.Wire, to netip.AddrPort, taken []lab.Datagram, source func(int) netip.AddrPort) (frames [][]byte) {
	for i, d := range taken {
		from := d.From
		if source != nil {
			from = source(i)
		}
		frames = append(frames, w.Datagram(from, to, d.Payload))
	}
	return frames
}
