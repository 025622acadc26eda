package dataplane

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// Whom the client of these tests may reach.
var (
	offeredHost = netip.MustParsePrefix("10.9.0.1/32")
	oneHost     = admit.Compile([]netip.Prefix{offeredHost}, []netip.Addr{netip.MustParseAddr("192.0.2.2")})
)

const (
	allowed    = "10.9.0.1:80"
	notOffered = "10.9.0.2:80"
	ownOuter   = "192.0.2.2:80"
	leased     = "10.1.0.2:4000"
)

// judge is one way into a node: it takes a packet and says how it was judged.
type judge struct {
	name   string
	down   bool
	try    func(t *testing.T, packet []byte) Reason
	told   *[]link.Path // violations, as the owner hears of them
	refuse func() uint64
}

// verdict is the one reason that a worker's counters grew by; Pass if none did.
func verdict(t *testing.T, l *ledger, do func()) Reason {
	t.Helper()
	before := l.stats()
	do()
	after := l.stats()
	if after.Balance() != 0 {
		t.Errorf("I8: %+v", after)
	}
	for _, r := range Reasons() {
		if after.Dropped[r] != before.Dropped[r] {
			return r
		}
	}
	return Pass
}

// reporting is an engine that notes who violated.
func reporting(t testing.TB) (*Engine, *[]link.Path) {
	told := new([]link.Path)
	now := int64(0)
	return testEngine(t, Config{
		Clock:     func() int64 { now += int64(2 * ViolationInterval); return now },
		Violation: func(r Reason, _ uint64, p link.Path) { *told = append(*told, p) },
	}), told
}

// opened judges what a client sealed.
func opened(t *testing.T) judge {
	w, far, pair := agentSide(t)
	e, told := reporting(t)
	e.Publish(w.engine.table.Load())
	w.engine, w.report.tell = e, e.config.Violation
	pair.SetRule(oneHost)
	return judge{"opened", false, func(t *testing.T, packet []byte) Reason {
		return verdict(t, w.ledger, func() {
			w.now = e.config.Clock()
			feed(w, sealOne(t, far, packet))
		})
	}, told, func() uint64 { return pair.Counters().Refused }}
}

func sealOne(t *testing.T, o *esp.Outbound, packet []byte) []byte {
	t.Helper()
	counter, err := o.Reserve(1, len(packet))
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, esp.SealedLen(len(packet)))
	copy(frame[esp.PayloadOffset:], packet)
	next := byte(esp.NextIPv4)
	if packet[0]>>4 == 6 {
		next = esp.NextIPv6
	}
	return o.Seal(frame, len(packet), next, counter)
}

// handed judges what another node hands on, in clear or sealed: down to a client
// of this agent, or up as its egress.
func handed(t *testing.T, down, sealed bool) judge {
	p, s, _ := testPair(t)
	p.Leases = append(p.Leases, netip.MustParseAddr("fd01::2"))
	table := nodeTable(p)
	p.SetRule(oneHost)
	spi := esp.MakeSPI(2, 1)
	if !down {
		spi = esp.MakeSPI(3, 1)
		table.Routes = pages.At(map[netip.Addr]*Route{p.Leases[0]: {Upward: []uint32{spi}, Rule: oneHost}})
	}
	seal, _ := linkTo(t, table)
	table.Sealed = sealed
	e, told := reporting(t)
	e.Publish(table)
	w := newHandOn(e, new(ledger), s, e.queues[0]).(*handOn)
	name := map[bool]string{true: "handed on down", false: "handed on up"}[down] + map[bool]string{true: ", sealed"}[sealed]
	return judge{name, down, func(t *testing.T, packet []byte) Reason {
		d := Marker{Type: MarkerHandOn, Hops: 1, SPI: spi}.Append(nil, packet)
		if sealed {
			d = sealLink(t, seal, d)
		}
		return verdict(t, w.ledger, func() { receive(t, w, s, d, len(d), "10.0.0.3:6484") })
	}, told, func() uint64 {
		if !down {
			return w.ledger.stats().Dropped[DropNotAllowed] // an egress has no pair to count at
		}
		return p.Counters().Refused
	}}
}

func sealLink(t *testing.T, o *esp.Outbound, d []byte) []byte {
	t.Helper()
	counter, err := o.Reserve(1, len(d))
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, esp.SealedLen(len(d)))
	copy(frame[esp.PayloadOffset:], d)
	return o.Seal(frame, len(d), nextHandOn, counter)
}

// read judges what an egress reads from its TUN, for a slice of its own or of
// another node.
func read(t *testing.T, own bool) judge {
	p, _, _ := testPair(t)
	p.Agent = true
	p.SetRule(oneHost)
	p.SetWay(nowhere{}, link.Path{Remote: addrPort("192.0.2.1:6484")})
	table := clientTable(p)
	table.Own, table.Default.Rule = 2, oneHost
	name := "read for an own slice"
	if !own {
		name = "read for another's slice"
		table.Default.Slices = []RouteSlice{{SPI: esp.MakeSPI(3, 1), HandOn: &link.Path{Remote: addrPort("10.0.0.3:6486")}}}
	}
	e, told := reporting(t)
	e.config.Inside = []link.Socket{nowhere{}}
	e.Publish(table)
	o := outboundWorker(e)
	o.report.tell = e.config.Violation
	return judge{name, true, func(t *testing.T, packet []byte) Reason {
		return verdict(t, o.ledger, func() {
			b := o.buffer[headroom : headroom+len(packet)]
			copy(b, packet)
			o.carry(tun.VnetHeader{}, b)
			o.small.flush()
		})
	}, told, func() uint64 { return o.ledger.stats().Dropped[DropNotAllowed] }}
}

func judges(t *testing.T) []judge {
	return []judge{
		opened(t), handed(t, false, false), handed(t, false, true), handed(t, true, false), handed(t, true, true),
		read(t, true), read(t, false),
	}
}

// between is a TCP packet of the client and another, the way that a judge sees.
func (j judge) between(other string) []byte {
	if j.down {
		return NewTCP(other, leased, 1, Pattern(300)).Bytes()
	}
	return NewTCP(leased, other, 1, Pattern(300)).Bytes()
}

// TestEveryWayAdmits: up and down, after an open and a hand-on, in clear and
// sealed: what the client may reach passes, and all else is dropped under its own
// name, counted at the client, and told.
func TestEveryWayAdmits(t *testing.T) {
	for _, j := range judges(t) {
		if got := j.try(t, j.between(allowed)); got != Pass {
			t.Errorf("%s: what was offered: %v", j.name, got)
		}
		for i, other := range []string{notOffered, ownOuter, "127.0.0.1:80", "224.0.0.1:80"} {
			if got := j.try(t, j.between(other)); got != DropNotAllowed {
				t.Errorf("%s: %s: %v", j.name, other, got)
			}
			if len(*j.told) != i+1 || j.refuse() != uint64(i+1) {
				t.Errorf("%s: %s: told %d times, %d counted", j.name, other, len(*j.told), j.refuse())
			}
		}
		if got := j.try(t, j.between(allowed)); got != Pass {
			t.Errorf("%s: afterwards: %v", j.name, got)
		}
	}
}

// TestNoRuleAdmitsNothing: a node that was told nothing of a client lets nothing
// of it pass.
func TestNoRuleAdmitsNothing(t *testing.T) {
	saved := oneHost
	defer func() { oneHost = saved }()
	oneHost = nil
	for _, j := range judges(t) {
		if got := j.try(t, j.between(allowed)); got != DropNotAllowed {
			t.Errorf("%s: %v", j.name, got)
		}
	}
}

// TestErrorsAreAdmittedByWhatTheyQuote: a router on the way is not among what a
// client may reach; its word on the client's own packet is heard all the same.
func TestErrorsAreAdmittedByWhatTheyQuote(t *testing.T) {
	sent := NewUDP(leased, allowed, Pattern(100)).Bytes()
	elsewhere := NewUDP(leased, notOffered, Pattern(100)).Bytes()
	others := NewUDP("10.1.0.9:4000", allowed, Pattern(100)).Bytes()
	for _, j := range judges(t) {
		if !j.down {
			continue
		}
		for _, c := range []struct {
			name       string
			kind, code byte
			quote      []byte
			edit       func([]byte) []byte
			want       Reason
		}{
			{"time exceeded", 11, 0, sent, nil, Pass},
			{"too big", 3, 4, sent, nil, Pass},
			{"a redirect", 5, 0, sent, nil, DropNotAllowed},
			{"an echo", 8, 0, sent, nil, DropNotAllowed},
			{"about a packet elsewhere", 11, 0, elsewhere, nil, DropNotAllowed},
			{"about another's packet", 11, 0, others, nil, DropNotAllowed},
			{"that quotes nothing", 11, 0, nil, nil, DropNotAllowed},
			{"that quotes half a header", 11, 0, sent[:19], nil, DropNotAllowed},
			{"that quotes IPv6", 11, 0, append([]byte{0x60}, sent[1:]...), nil, DropNotAllowed},
			{"in a fragment", 11, 0, sent, func(b []byte) []byte { b[6] = 0x20; fixIPv4Checksum(b[:20]); return b }, DropNotAllowed},
		} {
			packet := icmp("10.55.0.1", leased, c.kind, c.code, c.quote)
			if c.edit != nil {
				packet = c.edit(packet)
			}
			if got := j.try(t, packet); got != c.want {
				t.Errorf("%s: %s: %v", j.name, c.name, got)
			}
		}
	}
}

// icmp is a router's message about a packet.
func icmp(from, to string, kind, code byte, quote []byte) []byte {
	b := make([]byte, ipv4HeaderLen+icmpHeaderLen+len(quote))
	b[0], b[8], b[9], b[3] = 0x45, 64, protoICMP, byte(len(b))
	copy(b[12:], netip.MustParseAddr(from).AsSlice())
	copy(b[16:], netip.MustParseAddrPort(to).Addr().AsSlice())
	fixIPv4Checksum(b[:ipv4HeaderLen])
	m := b[ipv4HeaderLen:]
	m[0], m[1] = kind, code
	copy(m[icmpHeaderLen:], quote)
	store(m[2:], ^fold(sum(m, 0)))
	return b
}

// TestQuotedIPv6 reads the quote behind an extension header too.
func TestQuotedIPv6(t *testing.T) {
	quote := NewUDP("[fd01::2]:1", "[fd09::1]:2", Pattern(10)).Bytes()
	message := append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, quote...)
	for _, extension := range [][]byte{nil, {protoICMPv6, 0, 1, 4, 0, 0, 0, 0}} {
		b := make([]byte, ipv6HeaderLen)
		b[0], b[6], b[7] = 0x60, protoICMPv6, 64
		if extension != nil {
			b[6] = nextHopByHop
		}
		copy(b[8:], netip.MustParseAddr("fd55::1").AsSlice())
		copy(b[24:], netip.MustParseAddr("fd01::2").AsSlice())
		b = append(append(b, extension...), message...)
		b[5] = byte(len(b) - ipv6HeaderLen)
		var in inner
		if r := in.parse(b); r != Pass {
			t.Fatal(r)
		}
		src, dst, ok := in.quoted(b)
		if !ok || src != netip.MustParseAddr("fd01::2") || dst != netip.MustParseAddr("fd09::1") {
			t.Errorf("%v %v %v", src, dst, ok)
		}
		rule := admit.Compile([]netip.Prefix{netip.MustParsePrefix("fd09::/64")}, nil)
		if !answers(rule, &in, b) || answers(oneHost, &in, b) {
			t.Error("judged by something else than its quote")
		}
	}
}

// TestIPv6ErrorsAreFew: a router's word on another packet is of four types. An echo
// request or a redirect whose body looks like a quote is none.
func TestIPv6ErrorsAreFew(t *testing.T) {
	in := inner{v6: true, proto: protoICMPv6}
	for kind := range 256 {
		if is := in.isError(byte(kind)); is != (kind >= 1 && kind <= 4) {
			t.Errorf("type %d: %t", kind, is)
		}
	}
}

// TestAdmissionAgainstNaiveModel: random packets by random rules, on every way,
// against what one would say of the two addresses.
func TestAdmissionAgainstNaiveModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	others := []string{allowed, notOffered, ownOuter, "10.9.1.1:80", "8.8.8.8:80", "127.0.0.1:80"}
	saved := oneHost
	defer func() { oneHost = saved }()
	for range 40 {
		var prefixes []netip.Prefix
		for range 1 + r.IntN(3) {
			p, _ := netip.MustParseAddrPort(others[r.IntN(len(others))]).Addr().Prefix([]int{0, 16, 24, 32}[r.IntN(4)])
			prefixes = append(prefixes, p)
		}
		outer := netip.MustParseAddrPort(ownOuter).Addr()
		oneHost = admit.Compile(prefixes, []netip.Addr{outer})
		for _, j := range judges(t) {
			other := others[r.IntN(len(others))]
			at := netip.MustParseAddrPort(other).Addr()
			held := func(p netip.Prefix) bool {
				private := at.IsLoopback() && !p.Addr().IsLoopback() || at == outer && p.Bits() != 32
				return p.Contains(at) && !private
			}
			want := DropNotAllowed
			if slices.ContainsFunc(prefixes, held) {
				want = Pass
			}
			if got := j.try(t, j.between(other)); got != want {
				t.Errorf("%s: %v: %s: %v, want %v", j.name, prefixes, other, got, want)
			}
		}
	}
}

// TestHotPathsOfNodesDoNotAllocate, admission included.
func TestHotPathsOfNodesDoNotAllocate(t *testing.T) {
	packet := NewTCP(allowed, leased, 1, Pattern(300)).Bytes()
	var in inner
	if r := in.parse(packet); r != Pass {
		t.Fatal(r)
	}
	p, _, _ := testPair(t)
	p.Agent = true
	p.SetRule(oneHost)
	bad := icmp("10.55.0.1", leased, 11, 0, NewUDP(leased, allowed, Pattern(100)).Bytes())
	var failed inner
	failed.parse(bad)
	if n := testing.AllocsPerRun(100, func() {
		if p.admitOut(&in, packet, 1) != Pass || p.admitOut(&failed, bad, 1) != Pass {
			t.Fatal("not admitted")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzQuoted: no bytes make the quote's reader fail, or read beyond the packet.
func FuzzQuoted(f *testing.F) {
	f.Add(icmp("10.55.0.1", leased, 11, 0, NewUDP(leased, allowed, Pattern(100)).Bytes()))
	f.Add(bytes.Repeat([]byte{0x60}, 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in inner
		if in.parse(b) != Pass {
			return
		}
		src, dst, ok := in.quoted(b)
		if ok && (!src.IsValid() || !dst.IsValid() || in.total < in.header+icmpHeaderLen+ipv4HeaderLen) {
			t.Errorf("a quote out of nothing: %v %v", src, dst)
		}
	})
}

// BenchmarkAdmit is what admission costs an agent for one packet.
func BenchmarkAdmit(b *testing.B) {
	packet := NewTCP(leased, allowed, 1, Pattern(300)).Bytes()
	var in inner
	in.parse(packet)
	p, _, _ := testPair(b)
	p.Agent = true
	for _, c := range []struct {
		name string
		rule *admit.Rule
	}{{"nothing judged", admit.Any()}, {"1 prefix", oneHost}} {
		b.Run(c.name, func(b *testing.B) {
			p.SetRule(c.rule)
			b.ReportAllocs()
			for b.Loop() {
				if p.admitIn(&in) != Pass {
					b.Fatal("not admitted")
				}
			}
		})
	}
}
