package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/pages"
)

// lookups is a node's table of so many sessions, and their leases and SPIs in the
// order in which packets come: none.
func lookups(sessions int) (t *Table, four, six []netip.Addr, spis []uint32) {
	t = &Table{Own: 2, Here: addr("10.9.0.1")}
	in, routes := map[uint32]*Pair{}, map[netip.Addr]*Route{}
	for i := range sessions {
		a := netip.AddrFrom4([4]byte{10, 77, byte(i >> 8), byte(i)})
		b := netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 14: byte(i >> 8), 15: byte(i)})
		spi := esp.MakeSPI(2, uint32(i)*7919%(1<<20))
		four, six, spis = append(four, a), append(six, b), append(spis, spi)
		in[spi] = new(Pair)
		routes[a] = new(Route)
		routes[b] = routes[a]
	}
	t.In, t.Routes = pages.Numbered(in), pages.At(routes)
	rand.Shuffle(sessions, func(i, j int) { four[i], four[j], six[i], six[j] = four[j], four[i], six[j], six[i] })
	rand.Shuffle(sessions, func(i, j int) { spis[i], spis[j] = spis[j], spis[i] })
	return t, four, six, spis
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// BenchmarkRoute is the look-up of one packet's way among 10,000 sessions.
func BenchmarkRoute(b *testing.B) {
	t, four, six, _ := lookups(10_000)
	for name, leases := range map[string][]netip.Addr{"IPv4": four, "IPv6": six} {
		b.Run(name, func(b *testing.B) {
			in := inner{src: addr("10.9.0.7")}
			for i := 0; b.Loop(); i++ {
				in.dst = leases[i%len(leases)]
				if t.route(&in) == nil {
					b.Fatal("no route")
				}
			}
		})
	}
}

// BenchmarkSPI is the look-up of one train's SA among 10,000.
func BenchmarkSPI(b *testing.B) {
	t, _, _, spis := lookups(10_000)
	for i := 0; b.Loop(); i++ {
		if t.In.Get(pages.Number(spis[i%len(spis)])) == nil {
			b.Fatal("no SA")
		}
	}
}
