package dataplane

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// sizesRig is a sealing worker whose pair has those sizes, and the far end that
// opens what it sends.
type sizesRig struct {
	*testing.T
	*outbound
	pair   *Pair
	socket *fakeSocket
	device *tuntest.Device
	far    *inbound
	clock  int64
}

func newSizesRig(t *testing.T, mtu, limit int) *sizesRig {
	r := &sizesRig{T: t, clock: 1}
	r.pair, r.socket, _ = testPair(t)
	r.pair.SetSizes(mtu, limit)
	e := testEngine(t, Config{Clock: func() int64 { return r.clock }})
	e.Publish(clientTable(r.pair))
	r.outbound = outboundWorker(e)
	r.device = e.config.Device.(*tuntest.Device)
	far := &Pair{In: opener(t, esp.MakeSPI(2, 1), 0), Leases: r.pair.Leases, Agent: true}
	far.SetRule(admit.Any())
	to := testEngine(t, Config{})
	to.Publish(&Table{Own: 2, In: pages.Numbered(map[uint32]*Pair{esp.MakeSPI(2, 1): far})})
	r.far = inboundWorker(to, newFakeSocket())
	r.far.table, r.far.now = to.table.Load(), 1
	return r
}

// deliver gives what was sent to the far end, and takes what it writes.
func (r *sizesRig) deliver(order ...int) (packets [][]byte) {
	r.Helper()
	var datagrams [][]byte
	for i, train := range r.socket.sent {
		for size := r.socket.sizes[i]; len(train) > 0; train = train[min(size, len(train)):] {
			datagrams = append(datagrams, bytes.Clone(train[:min(size, len(train))]))
		}
	}
	r.socket.sent, r.socket.sizes = nil, nil
	if order == nil {
		for i := range datagrams {
			order = append(order, i)
		}
	}
	for _, i := range order {
		r.far.ledger.take(PortOuter, 1)
		r.far.train(datagrams[i], len(datagrams[i]))
	}
	for {
		p, ok := r.far.engine.config.Device.(*tuntest.Device).Take()
		if !ok {
			return packets
		}
		packets = append(packets, p.Data)
	}
}

// refused takes the ICMP message that the worker wrote to its own TUN.
func (r *sizesRig) refused() []byte {
	r.Helper()
	p, ok := r.device.Take()
	if !ok {
		return nil
	}
	if p.Header != (tun.VnetHeader{}) {
		r.Errorf("a refusal with the offload header %+v", p.Header)
	}
	return p.Data
}

func (r *sizesRig) balanced() {
	r.Helper()
	for _, l := range []*ledger{r.ledger, r.far.ledger} {
		if s := l.stats(); s.Balance() != 0 {
			r.Errorf("I8: %d packets unaccounted for: %+v", s.Balance(), s)
		}
	}
}

// TestSizesMakeSense: whatever a client says, fragments make way and nothing is
// larger than the buffers.
func TestSizesMakeSense(t *testing.T) {
	var p Pair
	for _, c := range [][4]int{
		{1438, 1400, 1438, 1400}, {0, 0, pmtu.MinMTU, MinLimit}, {1, 68, pmtu.MinMTU, MinLimit}, {65535, 65535, MaxPadded, MaxPadded},
	} {
		p.SetSizes(c[0], c[1])
		if mtu, limit := p.Sizes(); mtu != c[2] || limit != c[3] {
			t.Errorf("%v became %d, %d", c[:2], mtu, limit)
		}
	}
	p = Pair{}
	if mtu, limit := p.Sizes(); mtu != pmtu.Legacy || limit != pmtu.Legacy {
		t.Errorf("before any word: %d, %d", mtu, limit)
	}
}

// TestTooBigIsRefused: a packet above the MTU that must not be fragmented comes
// back as the quotation of a message that says how large it may be, in the name
// of the host it was for; a run of them comes back once.
func TestTooBigIsRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		segment Segment
		size    int
	}{
		{"one", NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1440)), 0},
		{"run", NewTCP("10.1.0.2:1", "10.9.0.1:2", 77, Pattern(60000)), 1400},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newSizesRig(t, 1438, 1438)
			carry(r.outbound, c.segment, c.size)
			b := r.refused()
			var in inner
			if in.parse(b) != Pass || in.src != netip.MustParseAddr("10.9.0.1") || in.dst != netip.MustParseAddr("10.1.0.2") || in.proto != protoICMP {
				t.Fatalf("%x", b)
			}
			if !bytes.Equal(b[20:22], []byte{3, 4}) || binary.BigEndian.Uint16(b[26:]) != 1438 || len(b) != maxRefusalIPv4 {
				t.Errorf("not RFC 1191: %x", b[:40])
			}
			if NaiveSum(b[:20], 0) != 0xffff || NaiveSum(b[20:], 0) != 0xffff {
				t.Error("wrong checksums")
			}
			var quoted inner
			if quoted.parse(append(bytes.Clone(b[28:]), make([]byte, 2000)...)) != Pass || quoted.total <= 1438 || quoted.total > 1500 {
				t.Errorf("quotes a packet of %d bytes", quoted.total)
			}
			if again := r.refused(); again != nil || len(r.socket.sent) != 0 {
				t.Error("refused twice, or sent all the same")
			}
			if r.ledger.stats().Dropped[DropTooBig] == 0 {
				t.Error("not counted")
			}
			r.balanced()
		})
	}
}

func TestTooBigIPv6(t *testing.T) {
	p := NewUDP("[2001:db8::2]:1", "[2001:db8::9]:2", Pattern(3000)).Bytes()
	var in inner
	in.parse(p)
	b := tooBig(make([]byte, 2000), p, &in, 1280)
	if len(b) != maxRefusalIPv6 || b[6] != protoICMPv6 || b[40] != 2 || b[41] != 0 || binary.BigEndian.Uint32(b[44:]) != 1280 {
		t.Fatalf("%x", b[:60])
	}
	if !bytes.Equal(b[8:24], p[24:40]) || !bytes.Equal(b[24:40], p[8:24]) || !bytes.Equal(b[48:], p[:1232]) {
		t.Error("not from the destination to the source, with the packet quoted")
	}
	acc := uint32(NaiveSum(b[8:40], uint32(protoICMPv6)+uint32(len(b)-40)))
	if NaiveSum(b[40:], acc) != 0xffff {
		t.Error("wrong checksum")
	}
}

// TestErrorsAreNotAnswered: RFC 1122 3.2.2, RFC 4443 2.4.
func TestErrorsAreNotAnswered(t *testing.T) {
	icmp := func(src, dst string, kind byte) []byte {
		p := NewUDP(src, dst, Pattern(100)).Bytes()
		at := 9
		header := ipv4HeaderLen
		if p[0]>>4 == 6 {
			at, header = 6, ipv6HeaderLen
		}
		p[at] = protoICMP
		if header == ipv6HeaderLen {
			p[at] = protoICMPv6
		}
		p[header] = kind
		return p
	}
	fragment := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(100)).Bytes()
	fragment[7] = 1
	for name, c := range map[string]struct {
		p    []byte
		want bool
	}{
		"a datagram":        {NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(100)).Bytes(), true},
		"an echo":           {icmp("10.1.0.2:1", "10.9.0.1:2", 8), true},
		"an unreachable":    {icmp("10.1.0.2:1", "10.9.0.1:2", 3), false},
		"a later fragment":  {fragment, false},
		"to a group":        {NewUDP("10.1.0.2:1", "224.0.0.5:2", Pattern(100)).Bytes(), false},
		"to all":            {NewUDP("10.1.0.2:1", "255.255.255.255:2", Pattern(100)).Bytes(), false},
		"from nobody":       {NewUDP("0.0.0.0:1", "10.9.0.1:2", Pattern(100)).Bytes(), false},
		"an IPv6 echo":      {icmp("[2001:db8::2]:1", "[2001:db8::9]:2", 128), true},
		"an IPv6 too big":   {icmp("[2001:db8::2]:1", "[2001:db8::9]:2", 2), false},
		"from an IPv6 loop": {NewUDP("[::1]:1", "[2001:db8::9]:2", Pattern(100)).Bytes(), false},
	} {
		var in inner
		in.parse(c.p)
		if got := tooBig(make([]byte, 2000), c.p, &in, 1280) != nil; got != c.want {
			t.Errorf("%s: answered %v", name, got)
		}
	}
}

// TestRefusalsAreBounded: RefusalBurst at once, RefusalsPerSecond over time.
func TestRefusalsAreBounded(t *testing.T) {
	r := newSizesRig(t, 1438, 1438)
	count := func(n int) (answered int) {
		for range n {
			carry(r.outbound, NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1440)), 0)
			if r.refused() != nil {
				answered++
			}
		}
		return answered
	}
	if got := count(3 * RefusalBurst); got != RefusalBurst {
		t.Errorf("%d answers at once", got)
	}
	r.clock += int64(10 * time.Second)
	answered := 0
	for range 100 {
		r.clock += int64(10 * time.Millisecond)
		answered += count(RefusalsPerSecond / 20)
	}
	if answered > RefusalsPerSecond+RefusalBurst || answered < RefusalsPerSecond*9/10 {
		t.Errorf("%d answers in a second", answered)
	}
	r.balanced()
}

// TestFragments: what may be fragmented arrives in fragments that make the
// packet again, options included (RFC 791 3.2).
func TestFragments(t *testing.T) {
	for _, c := range []struct{ payload, mtu, limit int }{{3000, 1438, 1438}, {1450, 1438, 1438}, {9000, 1280, 700}} {
		r := newSizesRig(t, c.mtu, c.limit)
		s := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(c.payload))
		s.DF, s.ID, s.TOS = false, 4711, 0x2a
		carry(r.outbound, s, 0)
		want := s.Bytes()
		got := r.deliver()
		if whole := reassemble(t, got, min(c.mtu, c.limit)); !bytes.Equal(whole, want[20:]) {
			t.Errorf("%+v: %d fragments make another packet", c, len(got))
		}
		r.balanced()
	}
}

// reassemble puts fragments of one packet together, in their order.
func reassemble(t *testing.T, fragments [][]byte, most int) (payload []byte) {
	t.Helper()
	for i, f := range fragments {
		header := int(f[0]&15) * 4
		place := binary.BigEndian.Uint16(f[6:])
		more := place&bitMF != 0
		if len(f) > most || int(binary.BigEndian.Uint16(f[2:])) != len(f) || NaiveSum(f[:header], 0) != 0xffff {
			t.Errorf("fragment %d of %d bytes: %x", i, len(f), f[:header])
		}
		if int(place&maskOffset)*8 != len(payload) || more != (i < len(fragments)-1) || !bytes.Equal(f[4:6], fragments[0][4:6]) || f[1] != fragments[0][1] {
			t.Errorf("fragment %d does not follow: %x", i, f[:header])
		}
		payload = append(payload, f[header:]...)
	}
	return payload
}

// TestFragmentOfAFragment: offsets add up, the last flag stays, and only the
// options that are to be copied go into each.
func TestFragmentOfAFragment(t *testing.T) {
	s := NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1000))
	p := s.Bytes()
	options := []byte{7, 4, 4, 0, 0x83, 3, 4, 0} // record route, not copied; loose source route, copied; end
	p = append(append(bytes.Clone(p[:20]), options...), p[20:]...)
	p[0] = 0x47
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	binary.BigEndian.PutUint16(p[6:], bitMF|100)
	fixIPv4Checksum(p[:28])
	var in inner
	if in.parse(p) != Pass || !in.fragment {
		t.Fatal("not a fragment")
	}
	b, n := make([]byte, 4096), 0
	for f := newFragmenter(p, &in, 600); f.more(); n++ {
		got := b[:f.cut(b)]
		header, place := int(got[0]&15)*4, binary.BigEndian.Uint16(got[6:])
		if place&bitMF == 0 || NaiveSum(got[:header], 0) != 0xffff || len(got) > 600 {
			t.Errorf("fragment %d: %x", n, got[:header])
		}
		if n == 0 && (!bytes.Equal(got[20:28], options) || place&maskOffset != 100) {
			t.Errorf("the first: %x", got[:28])
		}
		if n > 0 && (!bytes.Equal(got[20:24], []byte{0x83, 3, 4, 0}) || header != 24 || place&maskOffset != 100+568/8) {
			t.Errorf("the second: %x", got[:header])
		}
	}
	if n != 2 {
		t.Errorf("%d fragments", n)
	}
}

// TestCopiedOptions: the last one may fill the header, one that goes beyond it ends
// the list, and what pads them to words is nobody else's bytes.
func TestCopiedOptions(t *testing.T) {
	for _, c := range []struct{ options, want []byte }{
		{[]byte{0x83, 4, 4, 9}, []byte{0x83, 4, 4, 9}},
		{[]byte{0x83, 5, 4, 9}, nil},
		{[]byte{0x83, 1, 4, 9}, nil},
		{[]byte{1, 7, 3, 5, 0x83, 3, 4, 0}, []byte{0x83, 3, 4, 0}},
		{[]byte{0x83, 3, 4, 0x94, 4, 0, 0, 0}, []byte{0x83, 3, 4, 0x94, 4, 0, 0, 0}},
		{[]byte{0x83}, nil},
	} {
		dst := bytes.Repeat([]byte{0xee}, 40)
		n := copiedOptions(dst, c.options)
		if !bytes.Equal(dst[:n], c.want) || n != copiedOptions(nil, c.options) {
			t.Errorf("%x: %x, want %x", c.options, dst[:n], c.want)
		}
	}
}

// FuzzFragment: fragments of any packet, with any options, fit and hold all of it.
func FuzzFragment(f *testing.F) {
	f.Add(NewUDP("10.1.0.2:1", "10.9.0.1:2", Pattern(1000)).Bytes(), uint16(600))
	f.Add([]byte{0x46, 0, 0, 26, 0, 0, 0, 0, 1, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x83, 9, 1, 1, 1, 2}, uint16(0))
	f.Fuzz(func(t *testing.T, p []byte, most uint16) {
		var in inner
		if in.parse(p) != Pass || in.v6 {
			return
		}
		limit := MinLimit + int(most)%MaxPadded
		var payload []byte
		b := make([]byte, tun.MaxPacket)
		for f := newFragmenter(p, &in, limit); f.more(); {
			n := f.cut(b)
			if n < ipv4HeaderLen || n > limit {
				t.Fatalf("a fragment of %d bytes, most %d", n, limit)
			}
			payload = append(payload, b[int(b[0]&15)*4:n]...)
		}
		if !bytes.Equal(payload, p[in.header:in.total]) {
			t.Fatal("not the whole packet")
		}
	})
}

// TestClampMSS: a SYN never offers more than fits, its checksum stays right, and
// nothing else is touched.
func TestClampMSS(t *testing.T) {
	for _, c := range []struct {
		name         string
		src, dst     string
		options      []byte
		flags        byte
		most, at, to int // at 0: stays as it is
	}{
		{"IPv4", "10.1.0.2:1", "10.9.0.1:2", []byte{2, 4, 5, 180, 1, 3, 3, 7}, flagSYN, 1438, 2, 1398},
		{"IPv6", "[2001:db8::2]:1", "[2001:db8::9]:2", []byte{2, 4, 5, 180, 1, 3, 3, 7}, flagSYN, 1438, 2, 1378},
		{"answer", "10.1.0.2:1", "10.9.0.1:2", []byte{2, 4, 5, 180}, flagSYN | flagACK, 1280, 2, 1240},
		{"odd place", "10.1.0.2:1", "10.9.0.1:2", []byte{1, 2, 4, 5, 180, 1, 1, 0}, flagSYN, 1438, 3, 1398},
		{"behind others", "10.1.0.2:1", "10.9.0.1:2", []byte{3, 3, 7, 4, 2, 1, 2, 4, 35, 40, 0, 0}, flagSYN, 1438, 8, 1398},
		{"small enough", "10.1.0.2:1", "10.9.0.1:2", []byte{2, 4, 2, 24}, flagSYN, 1438, 0, 0},
		{"no SYN", "10.1.0.2:1", "10.9.0.1:2", []byte{2, 4, 5, 180}, flagACK, 1438, 0, 0},
		{"none", "10.1.0.2:1", "10.9.0.1:2", nil, flagSYN, 1438, 0, 0},
		{"behind the end", "10.1.0.2:1", "10.9.0.1:2", []byte{0, 2, 4, 5, 180, 0, 0, 0}, flagSYN, 1438, 0, 0},
		{"broken", "10.1.0.2:1", "10.9.0.1:2", []byte{8, 0, 2, 4}, flagSYN, 1438, 0, 0},
		{"cut off", "10.1.0.2:1", "10.9.0.1:2", []byte{1, 1, 1, 2}, flagSYN, 1438, 0, 0},
	} {
		s := NewTCP(c.src, c.dst, 9, Pattern(3))
		s.Options, s.Flags = c.options, c.flags
		p := s.Bytes()
		want := bytes.Clone(p)
		var in inner
		in.parse(p)
		clampMSS(p, &in, c.most)
		if c.at != 0 {
			at := in.header + tcpHeaderLen + c.at
			if got := int(binary.BigEndian.Uint16(p[at:])); got != c.to || !Sound(p) {
				t.Errorf("%s: %d, sound %v", c.name, got, Sound(p))
			}
			copy(p[at:], want[at:at+2])
			copy(p[in.header+tcpChecksum:], want[in.header+tcpChecksum:][:2])
		}
		if !bytes.Equal(p, want) {
			t.Errorf("%s: something else changed", c.name)
		}
	}
}

// FuzzClampMSS: no header panics, and a sound packet stays sound.
func FuzzClampMSS(f *testing.F) {
	s := NewTCP("10.1.0.2:1", "10.9.0.1:2", 9, nil)
	s.Options, s.Flags = []byte{1, 2, 4, 5, 180, 1, 1, 0}, flagSYN
	f.Add(s.Bytes())
	f.Fuzz(func(t *testing.T, p []byte) {
		var in inner
		if in.parse(p) != Pass {
			return
		}
		p = p[:in.total]
		sound := Sound(p)
		clampMSS(p, &in, pmtu.MinMTU)
		if sound && !Sound(p) {
			t.Fatalf("%x", p)
		}
	})
}

// TestHandOnClampsAndRefuses: an agent that seals for others does what one does
// that reads its own TUN; a refusal goes where the client's packets go.
func TestHandOnClampsAndRefuses(t *testing.T) {
	p, s, _ := testPair(t)
	p.SetSizes(1438, 1438)
	e := testEngine(t, Config{})
	e.Publish(nodeTable(p))
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	own := esp.MakeSPI(2, 1)
	send := func(packet []byte) {
		t.Helper()
		d := Marker{Type: MarkerHandOn, Hops: 1, SPI: own}.Append(nil, packet)
		receive(t, w, s, d, len(d), "10.0.0.3:6484")
	}
	large := NewUDP("10.9.0.1:2", "10.1.0.2:1", Pattern(1440)).Bytes()
	send(large)
	if got, ok := e.config.Device.(*tuntest.Device).Take(); !ok || got.Data[9] != protoICMP {
		t.Errorf("not refused to the TUN: %v", got)
	}
	egress := newFakeSocket()
	p.SetOnward(false, &Onward{SPI: 77, Socket: egress, Path: link.Path{Remote: addrPort("10.0.0.3:6486")}})
	send(large)
	if len(egress.sent) != 1 || egress.sent[0][MarkerLen+9] != protoICMP {
		t.Errorf("not refused by way of the egress: %x", egress.sent)
	}
	if got := w.ledger.stats(); got.Dropped[DropTooBig] != 2 || got.Balance() != 0 || len(s.sent) != 0 {
		t.Errorf("%+v", got)
	}
	syn := NewTCP("10.9.0.1:2", "10.1.0.2:1", 1, nil)
	syn.Flags, syn.Options = flagSYN|flagACK, []byte{2, 4, 5, 180}
	send(syn.Bytes())
	opened, _, _, err := opener(t, own, 0).Open(s.sent[0])
	if err != nil || binary.BigEndian.Uint16(opened[42:]) != 1398 || !Sound(opened) {
		t.Errorf("the SYN was sealed as %x, %v", opened, err)
	}
}
