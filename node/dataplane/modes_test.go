package dataplane_test

import (
	"encoding/binary"
	"slices"
	"testing"

	. "github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// TestPacketIToAgentIModN is the patent's letter on the wire: the segments of
// super-packets of any length go to the agents in turn.
func TestPacketIToAgentIModN(t *testing.T) {
	agents := []int{2, 3, 4}
	w := newWorld(t, 4, agents...)
	w.client.table.Default.Set.Mode = slicing.Packet
	w.start()
	const segment = 1300
	up, runs := upstream(), []int{46 * segment, segment, 7 * segment, 2*segment + 9, 100}
	var packets []uint32 // where each begins
	for done, i := 0, 0; done < 600_000; i++ {
		n := runs[i%len(runs)]
		h, p := NewTCP(up.src, up.dst, uint32(done), up.data[done:done+n]).Super(segment)
		if !w.client.device.Inject(h, p) {
			t.Fatal("device full")
		}
		for at := 0; at < n; at += segment {
			packets = append(packets, uint32(done+at))
		}
		done += n
	}
	got := make([][]uint32, len(agents))
	for i, ix := range agents {
		for len(got[i]) < (len(packets)+len(agents)-1-i)/len(agents) {
			p, ok := w.nodes[ix].device.Wait()
			if !ok {
				t.Fatalf("agent %d wrote %d packets", ix, len(got[i]))
			}
			got[i] = append(got[i], binary.BigEndian.Uint32(p.Data[24:]))
		}
	}
	w.stop()
	for i, seq := range packets {
		if agent := i % len(agents); got[agent][i/len(agents)] != seq {
			t.Fatalf("packet %d, at %d, did not go to agent %d", i, seq, agents[agent])
		}
	}
}

// datagrams sends UDP of one flow, single and as super-packets, and says what
// each agent was given of it.
func datagrams(t *testing.T, mode slicing.Mode, spray bool, dst string) (packets []uint64) {
	agents := []int{2, 3, 4}
	w := newWorld(t, 4, agents...)
	w.client.table.Default.Set.Mode, w.client.table.Default.SprayUDP = mode, spray
	w.start()
	const runs, each = 12, 30 // and one by itself after each run
	for range runs {
		for _, size := range []int{1200, 0} {
			n := each * 1200
			if size == 0 {
				n = 1200
			}
			h, p := NewUDP("10.99.0.5:5000", dst, Pattern(n)).Super(size)
			if !w.client.device.Inject(h, p) {
				t.Fatal("device full")
			}
		}
	}
	var total uint64
	w.wait(func() bool {
		total, packets = 0, nil
		for _, ix := range agents {
			n := w.pairs[ix][1].Counters().PacketsIn
			packets, total = append(packets, n), total+n
		}
		return total == runs*(each+1)
	})
	w.stop()
	return packets
}

// TestUDPIsSprayedOnlyWhenAsked: in every mode one flow of UDP goes to one
// agent; with the wish it goes to all of them, but for QUIC.
func TestUDPIsSprayedOnlyWhenAsked(t *testing.T) {
	for _, mode := range []slicing.Mode{slicing.Burst, slicing.Pin, slicing.Packet, slicing.Flowlet} {
		sprays := mode == slicing.Burst || mode == slicing.Packet
		for _, c := range []struct {
			asked  bool
			dst    string
			spread bool
		}{{false, "10.0.0.80:9", false}, {true, "10.0.0.80:9", sprays}, {true, "10.0.0.80:443", false}} {
			packets := datagrams(t, mode, c.asked, c.dst)
			if spread := !slices.Contains(packets, 0); spread != c.spread || !spread && slices.Max(packets) != 12*31 {
				t.Errorf("%v, asked %v, to %s: packets by agent %v", mode, c.asked, c.dst, packets)
			}
		}
	}
}

// TestNumberWithoutASlice: a slice stands at its number; nothing is sent to a
// number that has none, nor taken for it.
func TestNumberWithoutASlice(t *testing.T) {
	w := newWorld(t, 3, 2, 3)
	r := w.client.table.Default
	r.Slices = slices.Insert(r.Slices, 1, RouteSlice{})
	r.Set.Weights = slices.Insert(r.Set.Weights, 1, 0)
	w.start()
	up := upstream()
	up.inject(t, w.client.device)
	up.collect(t, w.nodes[2].device, w.nodes[3].device)
	w.stop()
}
