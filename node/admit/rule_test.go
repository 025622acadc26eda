package admit

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func addresses(texts ...string) (all []netip.Addr) {
	for _, t := range texts {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

// TestRule: what is offered is reached, own addresses only by their name, and
// what belongs to one host, one link, nobody or many is held by no wide prefix.
func TestRule(t *testing.T) {
	everything := prefixes("0.0.0.0/0", "::/0")
	own := addresses("192.0.2.1", "127.0.0.1", "172.17.0.1", "2001:db8::1", "::1", "fe80::1")
	for _, c := range []struct {
		offered []netip.Prefix
		yes, no []string
		what    string
	}{
		{prefixes("10.20.0.100/32"), []string{"10.20.0.100"},
			[]string{"10.20.0.101", "10.20.0.99", "10.20.0.1", "192.0.2.1", "::ffff:10.20.0.100", "2001:db8::2"}, "one host"},
		{prefixes("10.20.0.0/24", "10.20.1.0/24", "fd20::/64"), []string{"10.20.0.0", "10.20.0.255", "10.20.1.255", "fd20::1"},
			[]string{"10.19.255.255", "10.20.2.0", "fd20:0:0:1::1"}, "networks that touch"},
		{everything, []string{"8.8.8.8", "10.20.0.1", "192.0.2.2", "192.0.2.0", "172.17.0.2", "2001:db8::2", "255.255.255.254"},
			[]string{"192.0.2.1", "127.0.0.1", "127.9.9.9", "172.17.0.1", "2001:db8::1", "::1", "::", "fe80::1", "fe80::2", "169.254.169.254",
				"0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "::ffff:8.8.8.8"}, "a full tunnel"},
		{append(slices.Clone(everything), prefixes("192.0.2.1/32", "2001:db8::1/128")...), []string{"192.0.2.1", "2001:db8::1"},
			[]string{"172.17.0.1", "127.0.0.1"}, "a full tunnel that names the outer address"},
		{prefixes("192.0.2.0/31"), []string{"192.0.2.0"}, []string{"192.0.2.1"}, "a network holds an own address and does not name it"},
		{prefixes("127.0.0.0/8"), []string{"127.0.0.2"}, []string{"127.0.0.1"}, "loopback"},
		{prefixes("127.0.0.1/32", "169.254.169.254/32", "fe80::/64"), []string{"127.0.0.1", "169.254.169.254", "fe80::2"},
			[]string{"127.0.0.2", "169.254.169.253", "fe80::1"}, "named"},
		{prefixes("224.0.0.1/32", "::ffff:10.0.0.0/104", "ff02::1/128"), nil,
			[]string{"224.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "ff02::1"}, "nobody's"},
		{nil, nil, []string{"10.20.0.1", "::1"}, "nothing"},
		{[]netip.Prefix{{}}, nil, []string{"10.20.0.1"}, "no prefix at all"},
	} {
		rule := Compile(c.offered, own)
		for _, a := range c.yes {
			if !rule.Admits(netip.MustParseAddr(a)) {
				t.Errorf("%s: %s is not reached", c.what, a)
			}
		}
		for _, a := range c.no {
			if rule.Admits(netip.MustParseAddr(a)) {
				t.Errorf("%s: %s is reached", c.what, a)
			}
		}
	}
	if (*Rule)(nil).Admits(netip.MustParseAddr("10.0.0.1")) || Compile(everything, nil).Admits(netip.Addr{}) ||
		!Any().Admits(netip.MustParseAddr("127.0.0.1")) {
		t.Error("no rule admits nothing, no address is not reached, and any rule admits all")
	}
}

// naive is the rule as one would say it.
func naive(offered []netip.Prefix, own []netip.Addr, a netip.Addr) bool {
	if slices.ContainsFunc(nobodys, func(p netip.Prefix) bool { return p.Contains(a) }) || a.Is4In6() {
		return false
	}
	named, held := false, false
	for _, p := range offered {
		if !p.Contains(a) {
			continue
		}
		among := true // of what is private, if a is
		for _, q := range privates {
			if q.Contains(a) && (!q.Contains(p.Addr()) || p.Bits() < q.Bits()) {
				among = false
			}
		}
		held = held || among
		named = named || p.Bits() == a.BitLen()
	}
	return held && (named || !slices.Contains(own, a))
}

// randomAddress is often near another, near the edges, or special.
func randomAddress(r *rand.Rand) netip.Addr {
	near := addresses("10.0.0.0", "10.0.0.255", "127.0.0.1", "169.254.1.1", "224.0.0.0", "255.255.255.255", "0.0.0.0", "192.0.2.1",
		"::", "::1", "fe80::1", "fd20::1", "ff02::1", "::ffff:10.0.0.1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1")
	b := near[r.IntN(len(near))].AsSlice()
	for range r.IntN(3) {
		b[len(b)-1-r.IntN(2)] ^= 1 << r.IntN(8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func randomCase(r *rand.Rand) (offered []netip.Prefix, own []netip.Addr) {
	for range r.IntN(6) {
		a := randomAddress(r)
		p, _ := a.Prefix(a.BitLen() - r.IntN(min(a.BitLen(), 34)+1))
		offered = append(offered, p)
	}
	for range r.IntN(6) {
		own = append(own, randomAddress(r).Unmap()) // as a host lists them
	}
	return offered, own
}

// TestAgainstNaiveModel draws cases by a seed.
func TestAgainstNaiveModel(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 8))
		offered, own := randomCase(r)
		rule := Compile(offered, own)
		for range 60 {
			a := randomAddress(r)
			if got, want := rule.Admits(a), naive(offered, own, a); got != want {
				t.Fatalf("seed %d: %v offered, %v own: %v is %v", seed, offered, own, a, got)
			}
		}
	}
}

// FuzzCompile: whatever is offered, a rule agrees with the naive one.
func FuzzCompile(f *testing.F) {
	f.Add([]byte{10, 20, 0, 100}, 32, []byte{192, 0, 2, 1}, []byte{10, 20, 0, 101})
	f.Add([]byte{0, 0, 0, 0}, 0, []byte{192, 0, 2, 1}, []byte{192, 0, 2, 1})
	f.Add(make([]byte, 16), 0, append(make([]byte, 15), 1), append(make([]byte, 15), 1))
	f.Fuzz(func(t *testing.T, network []byte, bits int, own, asked []byte) {
		n, fine := netip.AddrFromSlice(network)
		o, ownFine := netip.AddrFromSlice(own)
		a, askedFine := netip.AddrFromSlice(asked)
		p, err := n.Prefix(bits)
		if !fine || !ownFine || !askedFine || err != nil {
			return
		}
		if o.Is4In6() {
			return // a host's own addresses are never written so
		}
		offered, owns := []netip.Prefix{p}, []netip.Addr{o}
		if got, want := Compile(offered, owns).Admits(a), naive(offered, owns, a); got != want {
			t.Errorf("%v offered, %v own: %v is %v", p, o, a, got)
		}
	})
}

// TestOffered: a peer alone, else one's own, else what is pushed.
func TestOffered(t *testing.T) {
	own, pushed, peer := prefixes("10.1.0.0/16"), prefixes("10.2.0.0/16"), netip.MustParseAddr("10.20.0.2")
	for _, c := range []struct {
		got, want []netip.Prefix
	}{
		{Offered(own, pushed, peer), prefixes("10.20.0.2/32")},
		{Offered(own, pushed, netip.Addr{}), own},
		{Offered(nil, pushed, netip.Addr{}), pushed},
		{Offered(nil, nil, netip.Addr{}), nil},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%v, want %v", c.got, c.want)
		}
	}
}

// many is a rule of so many networks in each family that none touches another.
func many(count int) *Rule {
	var all []netip.Prefix
	for i := range count {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(i)}), 64))
	}
	return Compile(all, addresses("192.0.2.1"))
}

// TestAdmitsDoesNotAllocate, at the limit of prefixes that a client may have.
func TestAdmitsDoesNotAllocate(t *testing.T) {
	rule := many(64)
	a4, a6 := netip.MustParseAddr("10.63.0.9"), netip.MustParseAddr("fd3f::9")
	if n := testing.AllocsPerRun(100, func() {
		if !rule.Admits(a4) || !rule.Admits(a6) {
			t.Fatal("not reached")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdmits(b *testing.B) {
	for _, c := range []struct {
		name  string
		count int
		asked string
	}{
		{"IPv4 of 1", 1, "10.0.0.9"}, {"IPv4 of 64", 64, "10.63.0.9"},
		{"IPv6 of 1", 1, "fd00::9"}, {"IPv6 of 64", 64, "fd3f::9"},
	} {
		b.Run(c.name, func(b *testing.B) {
			rule, a := many(c.count), netip.MustParseAddr(c.asked)
			b.ReportAllocs()
			for b.Loop() {
				if !rule.Admits(a) {
					b.Fatal("not reached")
				}
			}
		})
	}
}
