package dataplane

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// faulty counts how often somebody tries a socket that is broken.
type faulty struct {
	*fakeSocket
	tried atomic.Int64
}

func (f *faulty) Receive(b []byte) (link.Train, error) {
	f.tried.Add(1)
	return f.fakeSocket.Receive(b)
}

// TestMaxFaults: the worker tries no more often, whatever comes of it.
func TestMaxFaults(t *testing.T) { // I10
	s := &faulty{fakeSocket: newFakeSocket()}
	s.fault = errors.New("broken")
	e := testEngine(t, Config{Outer: []link.Socket{s}})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	for s.tried.Load() < MaxFaults {
		runtime.Gosched()
	}
	if err := e.Close(); err != nil { // waits for the worker
		t.Fatal(err)
	}
	if n := s.tried.Load(); n != MaxFaults {
		t.Errorf("tried %d times, limit %d", n, MaxFaults)
	}
}

// noQueues is a device that nothing can be read from.
type noQueues struct{ *tuntest.Device }

func (noQueues) Queues() []tun.Queue { return nil }

// TestNothingPublished: an engine without a queue is none, and one without a table drops
// what comes, and is not flooded.
func TestNothingPublished(t *testing.T) {
	if _, err := New(Config{Device: noQueues{tuntest.New(1)}, Clock: func() int64 { return 1 }}); !errors.Is(err, ErrConfig) {
		t.Errorf("no queue: %v", err)
	}
	_, s, far := testPair(t)
	e := testEngine(t, Config{})
	w := inboundWorker(e, s)
	wantOnly(t, w, "no table", DropUnknownSPI, seal(t, far, NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, nil).Bytes(), esp.NextIPv4))
	if all := e.Flooded(); all != nil {
		t.Errorf("flooded: %+v", all)
	}
}

// TestTrainOfTwoSlices: each datagram of a train is opened under its own SPI.
func TestTrainOfTwoSlices(t *testing.T) {
	w, far, first := agentSide(t)
	second := &Pair{In: opener(t, esp.MakeSPI(2, 2), 7), Leases: first.Leases, Agent: true, Socket: first.Socket}
	second.SetRule(first.Rule())
	w.engine.table.Load().In = pages.Numbered(map[uint32]*Pair{first.In.SPI(): first, second.In.SPI(): second})
	packet := NewTCP("10.1.0.2:1", "10.9.0.1:2", 1, Pattern(100)).Bytes()
	d := seal(t, far, packet, esp.NextIPv4)
	train := append(append([]byte(nil), d...), seal(t, sealer(t, second.In.SPI(), 7), packet, esp.NextIPv4)...)
	receive(t, w, first.Socket.(*fakeSocket), train, len(d), "198.51.100.7:4500")
	if got := w.ledger.stats(); got.Delivered[PortTUN] != 2 || got.Balance() != 0 {
		t.Errorf("%+v", got)
	}
}

// forwarded is what a gateway was given.
type forwarded int

func (f *forwarded) Forward([]byte, link.Train, link.Socket) { *f++ }

// TestWhatGatewaysForward: sealed packets and accepts for other nodes, and nothing else:
// the rest is dropped where it comes in.
func TestWhatGatewaysForward(t *testing.T) {
	p, s, _ := testPair(t)
	var f forwarded
	e := testEngine(t, Config{Forwarder: &f})
	e.Publish(nodeTable(p))
	w := inboundWorker(e, s)
	other, own := esp.MakeSPI(3, 1), esp.MakeSPI(2, 1)
	sealed := binary.BigEndian.AppendUint32(nil, other)
	for name, c := range map[string]struct {
		d  []byte
		on bool
	}{
		"sealed":                     {append(sealed, make([]byte, 60)...), true},
		"an accept":                  {Marker{Type: MarkerAccept, SPI: other}.Append(nil, []byte("body")), true},
		"an accept of this node's":   {Marker{Type: MarkerAccept, SPI: own}.Append(nil, []byte("body")), false},
		"a confirm":                  {Marker{Type: MarkerConfirm, SPI: other}.Append(nil, []byte("body")), false},
		"a packet that is handed on": {Marker{Type: MarkerHandOn, Hops: 1, SPI: other}.Append(nil, []byte("body")), false},
		"four zeros":                 {make([]byte, 4), false},
		"less than an SPI":           {sealed[:3], false},
		"a marker that is cut off":   {Marker{Type: MarkerAccept, SPI: other}.Append(nil, nil)[:MarkerLen-1], false},
	} {
		f = 0
		receive(t, w, s, c.d, len(c.d), "198.51.100.1:9")
		if (f == 1) != c.on {
			t.Errorf("%s: forwarded %d times", name, f)
		}
	}
}

// TestBareHeaderIsAPacket: 20 bytes can be a whole packet of IPv4.
func TestBareHeaderIsAPacket(t *testing.T) {
	bare := make([]byte, ipv4HeaderLen)
	bare[0], bare[3], bare[9] = 0x45, ipv4HeaderLen, 50
	var in inner
	if reason := in.parse(bare); reason != Pass || in.total != ipv4HeaderLen {
		t.Errorf("%v, %+v", reason, in)
	}
	if reason := in.parse(bare[:ipv4HeaderLen-1]); reason != DropShort {
		t.Errorf("one byte less: %v", reason)
	}
}

// TestLastFragmentFits: what fits just so is the last one, and says so.
func TestLastFragmentFits(t *testing.T) {
	const most = ipv4HeaderLen + 64
	for _, whole := range []int{2 * 64, 2*64 + 8, 64} {
		packet := make([]byte, ipv4HeaderLen+whole)
		packet[0], packet[9] = 0x45, 50
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		var in inner
		if reason := in.parse(packet); reason != Pass {
			t.Fatal(reason)
		}
		b, total := make([]byte, most), 0
		for f := newFragmenter(packet, &in, most); f.more(); {
			n := f.cut(b)
			total += n - ipv4HeaderLen
			if follows := binary.BigEndian.Uint16(b[6:])&bitMF != 0; n == 0 || follows != (total < whole) {
				t.Fatalf("%d bytes, after %d: another follows %v", whole, total, follows)
			}
		}
	}
}

// TestQuestionsAreRare: one in ChallengeInterval along a way, whatever comes along it.
func TestQuestionsAreRare(t *testing.T) {
	const start = int64(1e9)
	var k known
	for _, c := range []struct {
		at    int64
		asked bool
	}{
		{start, true}, {start, false}, {start + int64(ChallengeInterval) - 1, false}, {start + int64(ChallengeInterval), true},
		{start + int64(ChallengeInterval) + 1, false},
	} {
		if asked := k.question(c.at) != nil; asked != c.asked {
			t.Errorf("after %d ns: asked %v", c.at-start, asked)
		}
	}
}

// TestHandOnTravelsInTrains: packets of one size together, a shorter one as the last.
func TestHandOnTravelsInTrains(t *testing.T) {
	s := newFakeSocket()
	o := onward{ledger: new(ledger)}
	to := &Onward{SPI: esp.MakeSPI(3, 1), Path: link.Path{Remote: netip.MustParseAddrPort("10.0.0.3:6486")}, Socket: s}
	for _, size := range []int{100, 100, 60, 100, tun.MaxPacket / 2} {
		o.add(to, make([]byte, size), 0, 1)
	}
	o.flush()
	var counts []int
	for i, train := range s.sent {
		counts = append(counts, (len(train)+s.sizes[i]-1)/s.sizes[i])
	}
	if len(counts) != 3 || counts[0] != 3 || counts[1] != 1 || counts[2] != 1 {
		t.Errorf("trains of %v", counts)
	}
}
