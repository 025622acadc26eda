package plan

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Bounds of what is ordered.
const (
	MaxOrders  = 5
	OrderLasts = 4 * time.Second // at most: until a session is opened again
	// OrdersOn is how much longer than faults there are orders: clients at rest are parked by
	// then, all of them.
	OrdersOn = 10 * time.Second
)

// orderKinds are those, as often as they are drawn.
var orderKinds = []Kind{Lie, Lie, Kick, Kick, KickUnsaid, KickUnsaid, Revoke}

// orders are drawn behind all faults, from a source of their own: a seed's faults are the same
// with them and without.
func (d *drawing) orders() {
	d.random = rand.New(rand.NewPCG(d.Seed, 0x6f7264))
	for range 1 + d.random.IntN(MaxOrders) {
		for range tries {
			if o := d.order(); d.mayBeOrdered(o) {
				d.Orders = append(d.Orders, o)
				break
			}
		}
	}
	slices.SortStableFunc(d.Orders, func(a, b Fault) int { return int(a.At - b.At) })
}

func (d *drawing) order() Fault {
	o := Fault{Kind: orderKinds[d.random.IntN(len(orderKinds))], Lasts: d.between(time.Second, OrderLasts)}
	o.At = d.Shape.Start + d.between(time.Second, d.room()+OrdersOn-o.Lasts)
	if o.Who.Number = d.random.IntN(d.Shape.Nodes); o.Kind != Lie {
		o.Who = Who{Client: true, Number: d.random.IntN(max(d.Shape.Clients, 1))}
	}
	return o
}

// mayBeOrdered says that one thing at a time happens to somebody, and that no arbiter dies
// near the loss of a disk: see DiskApart.
func (d *drawing) mayBeOrdered(o Fault) bool {
	if o.Who.Client && o.Who.Number >= d.Shape.Clients {
		return false
	}
	dies := func(o Fault) bool { return o.Kind == KickUnsaid }
	for _, other := range d.Orders {
		if overlap(o, other, 0) && (o.Who == other.Who || dies(o) && dies(other)) {
			return false
		}
	}
	return !dies(o) || !slices.ContainsFunc(d.Faults, func(f Fault) bool { return f.Kind.ends() && !f.Who.Client && overlap(o, f, DiskApart) })
}
