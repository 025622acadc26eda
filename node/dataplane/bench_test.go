package dataplane

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/replay"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// nowhere is a socket and a queue that keep nothing.
type nowhere struct{ link.Socket }

func (nowhere) Send([]byte, int, link.Path) error { return nil }
func (nowhere) Read([]byte) (int, error)          { return 0, tun.ErrClosed }
func (nowhere) TryRead([]byte) (int, error)       { return 0, tun.ErrClosed }
func (nowhere) Write([][]byte) error              { return nil }

// outRig is a worker that seals to nowhere, and a 64 KB run for it.
func outRig(t testing.TB) (o *outbound, h tun.VnetHeader, load func() []byte) {
	p, _, _ := testPair(t)
	p.SetWay(nowhere{}, link.Path{Remote: addrPort("192.0.2.1:6484")})
	e := testEngine(t, Config{})
	e.Publish(clientTable(p))
	o = outboundWorker(e)
	h, packet := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 5, Pattern(64000)).Super(1360)
	return o, h, func() []byte {
		b := o.buffer[headroom : headroom+len(packet)]
		copy(b[:100], packet) // the only part that sealing in place may change
		return b
	}
}

// settled runs something until keys and windows have what they keep under traffic.
func settled(run func()) func() {
	for range replay.Size/40 + 1 {
		run()
	}
	return run
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	o, h, load := outRig(t)
	if n := testing.AllocsPerRun(20, settled(func() { o.carry(h, load()) })); n != 0 {
		t.Errorf("outbound: %v allocations for a run", n)
	}
	in, refill := inRig(t)
	if n := testing.AllocsPerRun(20, settled(func() { in.train(refill()) })); n != 0 {
		t.Errorf("inbound: %v allocations for a train", n)
	}
}

// BenchmarkOutbound64K is cut, seal and the call to send for one run.
func BenchmarkOutbound64K(b *testing.B) {
	o, h, load := outRig(b)
	b.SetBytes(64000)
	b.ReportAllocs()
	for b.Loop() {
		o.carry(h, load())
	}
}

// BenchmarkOutboundSmall is one packet of 100 bytes.
func BenchmarkOutboundSmall(b *testing.B) {
	o, _, _ := outRig(b)
	h, packet := NewTCP("10.1.0.2:4000", "10.9.0.1:80", 5, Pattern(48)).Super(0)
	b.ReportAllocs()
	for b.Loop() {
		buffer := o.buffer[headroom : headroom+len(packet)]
		copy(buffer, packet)
		o.carry(h, buffer)
	}
}

// inRig is a worker that writes to nowhere, and trains for it: refill seals
// the next one.
func inRig(t testing.TB) (w *inbound, refill func() ([]byte, int)) {
	p, s, far := testPair(t)
	e := testEngine(t, Config{})
	e.Publish(clientTable(p))
	w = inboundWorker(e, s)
	w.table, w.now, w.merge.queue = e.table.Load(), 1, nowhere{}
	var packets [][]byte
	for i := range 44 {
		packet := NewTCP("10.9.0.1:80", "10.1.0.2:4000", uint32(i*1360), Pattern(1360))
		packets = append(packets, packet.Bytes())
	}
	size := esp.SealedLen(len(packets[0]))
	return w, func() ([]byte, int) {
		first, err := far.Reserve(len(packets), len(packets)*1412)
		if err != nil {
			t.Fatal(err)
		}
		for i, packet := range packets {
			frame := w.buffer[i*size : (i+1)*size]
			copy(frame[esp.PayloadOffset:], packet)
			far.Seal(frame, len(packet), esp.NextIPv4, first+uint64(i))
		}
		return w.buffer[:len(packets)*size], size
	}
}

// BenchmarkInboundTrain is open, admit and coalesce for a train of 44; what
// making the train costs is BenchmarkRefill.
func BenchmarkInboundTrain(b *testing.B) {
	w, refill := inRig(b)
	b.SetBytes(44 * 1360)
	b.ReportAllocs()
	for b.Loop() {
		w.train(refill())
	}
}

// BenchmarkRefill is what has to be subtracted from BenchmarkInboundTrain.
func BenchmarkRefill(b *testing.B) {
	_, refill := inRig(b)
	b.SetBytes(44 * 1360)
	for b.Loop() {
		refill()
	}
}

// BenchmarkHandedOnTrain is admit and seal for a train of 44 that another node
// hands on.
func BenchmarkHandedOnTrain(b *testing.B) {
	p, _, _ := testPair(b)
	p.SetWay(nowhere{}, link.Path{Remote: addrPort("192.0.2.1:6484")})
	e := testEngine(b, Config{})
	e.Publish(nodeTable(p))
	w := newHandOn(e, new(ledger), nowhere{}, e.queues[0]).(*handOn)
	w.table, w.now = e.table.Load(), 1
	var train []byte
	size := 0
	for i := range 44 {
		packet := NewTCP("10.9.0.1:80", "10.1.0.2:4000", uint32(i*1360), Pattern(1360))
		d := handOnMarker(esp.MakeSPI(2, 1)).Append(nil, packet.Bytes())
		train, size = append(train, d...), len(d)
	}
	b.SetBytes(44 * 1360)
	b.ReportAllocs()
	for b.Loop() {
		w.train(train, size)
	}
}

// BenchmarkCoalesce is the coalescer alone, checksums included.
func BenchmarkCoalesce(b *testing.B) {
	w, _ := inRig(b)
	var packets [][]byte
	var parsed []inner
	for i := range 44 {
		packet := NewTCP("10.9.0.1:80", "10.1.0.2:4000", uint32(i*1360), Pattern(1360)).Bytes()
		var in inner
		in.parse(packet)
		packets, parsed = append(packets, packet), append(parsed, in)
	}
	first := append([]byte(nil), packets[0]...)
	b.SetBytes(44 * 1360)
	for b.Loop() {
		copy(packets[0], first[:60])
		for i := range packets {
			w.merge.add(packets[i], &parsed[i])
		}
		w.merge.flush()
	}
}
