package order

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// packet is an IPv4 or IPv6 TCP packet of some payload, as the engine writes it.
func packet(v6 bool, seq uint32, payload int, flags byte) [][]byte {
	at := 20
	p := make([]byte, 40)
	p[0], p[9] = 0x45, 6
	copy(p[12:], []byte{10, 20, 0, 1, 10, 77, 0, 1})
	if v6 {
		at = 40
		p = make([]byte, 60)
		p[0], p[6] = 0x60, 6
		p[23], p[39] = 1, 2
	}
	copy(p[at:], []byte{0, 80, 200, 0})
	binary.BigEndian.PutUint32(p[at+4:], seq)
	p[at+12], p[at+13] = 5<<4, flags
	return [][]byte{make([]byte, tun.HeaderLen), p, make([]byte, payload)}
}

// sequence is the numbers of what came out of the device, in order.
func sequence(below *tuntest.Device, v6 bool) (all []uint32) {
	at := 24
	if v6 {
		at = 44
	}
	for _, p := range below.TakeAll() {
		all = append(all, binary.BigEndian.Uint32(p.Data[at:]))
	}
	return all
}

const ack = 0x10

// TestEarlyRunsWait: a run that overtook another is written after it, whichever
// queue it came by, and unharmed by the worker that goes on with its buffer.
func TestEarlyRunsWait(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		below := tuntest.New(2)
		d := Wrap(below)
		queues := d.Queues()
		for i, seq := range []uint32{0, 2000, 3000, 1000, 4000} {
			p := packet(v6, seq, 1000, ack)
			if err := queues[i%2].Write(p); err != nil {
				t.Fatal(err)
			}
			clear(p[1]) // the worker's own again
		}
		if got := sequence(below, v6); !slices.Equal(got, []uint32{0, 1000, 2000, 3000, 4000}) {
			t.Errorf("v6 %v: %v", v6, got)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestNothingWaitsForLong: what is missing may be lost.
func TestNothingWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := tuntest.New(1)
		d := Wrap(below)
		defer d.Close()
		q := d.Queues()[0]
		q.Write(packet(false, 0, 1000, ack))
		q.Write(packet(false, 5000, 1000, ack))
		if got := sequence(below, false); len(got) != 1 {
			t.Fatalf("%v at once", got)
		}
		<-time.After(slicing.MaxHold)
		synctest.Wait()
		if got := sequence(below, false); !slices.Equal(got, []uint32{5000}) {
			t.Errorf("%v after %v", got, slicing.MaxHold)
		}
	})
}

// TestOthersPass: what is no TCP segment, or begins a flow anew, goes at once.
func TestOthersPass(t *testing.T) {
	below := tuntest.New(1)
	d := Wrap(below)
	defer d.Close()
	q := d.Queues()[0]
	udp, fragment := packet(false, 9000, 10, ack), packet(false, 9000, 10, ack)
	udp[1][9], fragment[1][6] = 17, 0x20
	for _, p := range [][][]byte{
		packet(false, 0, 1000, ack), udp, fragment, packet(false, 7000, 0, ack), packet(false, 80_000, 0, 2), // SYN
		packet(false, 80_001, 10, ack), {make([]byte, tun.HeaderLen), make([]byte, 10)},
	} {
		q.Write(p)
		if n := len(below.TakeAll()); n != 1 {
			t.Errorf("%d packets came out", n)
		}
	}
}

// TestClose: what waits is given up, and nothing is written afterwards.
func TestClose(t *testing.T) {
	below := tuntest.New(1)
	d := Wrap(below)
	q := d.Queues()[0]
	q.Write(packet(false, 0, 1000, ack))
	q.Write(packet(false, 5000, 1000, ack))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := sequence(below, false); len(got) != 1 {
		t.Errorf("%v was written", got)
	}
}

// failing is a queue whose writes fail one after the other as it says.
type failing struct {
	tun.Queue
	faults []error
}

func (f *failing) Write([][]byte) (err error) {
	err, f.faults = f.faults[0], f.faults[1:]
	return err
}

type failingDevice struct {
	*tuntest.Device
	queue *failing
}

func (d failingDevice) Queues() []tun.Queue { return []tun.Queue{d.queue} }

// TestErrorsAreOfTheRunItself: who writes a run hears of that one, not of others
// that waited for it.
func TestErrorsAreOfTheRunItself(t *testing.T) {
	broken := errors.New("broken")
	for _, faults := range [][]error{{nil, nil, broken}, {nil, broken, nil}, {broken, nil, nil}} {
		d := Wrap(failingDevice{tuntest.New(1), &failing{faults: faults}})
		q := d.Queues()[0]
		for i, seq := range []uint32{0, 2000, 1000} { // the second one waits for the third
			want := []error{faults[0], nil, faults[1]}[i]
			if err := q.Write(packet(false, seq, 1000, ack)); err != want {
				t.Errorf("%v: write %d: %v", faults, i, err)
			}
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// FuzzSegment: whatever an agent sends as a packet, it is written or waits.
func FuzzSegment(f *testing.F) {
	f.Add(packet(false, 1, 0, ack)[1], 10)
	f.Add(packet(true, 1, 0, ack)[1], 0)
	f.Fuzz(func(t *testing.T, p []byte, payload int) {
		below := tuntest.New(1)
		d := Wrap(below)
		if err := d.Queues()[0].Write([][]byte{make([]byte, tun.HeaderLen), p, make([]byte, min(max(payload, 0), 60_000))}); err != nil {
			return // longer than a device takes
		}
		if len(below.TakeAll()) != 1 {
			t.Error("the first packet of a flow waits")
		}
		d.Close()
	})
}

// sink is a queue that takes everything.
type sink struct{ tun.Queue }

func (sink) Write([][]byte) error { return nil }

type sinkDevice struct{ *tuntest.Device }

func (sinkDevice) Queues() []tun.Queue { return []tun.Queue{sink{}} }

func BenchmarkInOrder(b *testing.B) {
	d := Wrap(sinkDevice{tuntest.New(1)})
	q := d.Queues()[0]
	p := packet(false, 0, 64_000, ack)
	b.ReportAllocs()
	for seq := uint32(0); b.Loop(); seq += 64_000 {
		binary.BigEndian.PutUint32(p[1][24:], seq)
		q.Write(p)
	}
}
