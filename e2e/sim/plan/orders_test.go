package plan

import (
	"strings"
	"testing"
)

// TestOrders: each kind is drawn, to somebody who is there, within its time, and no arbiter dies
// where the disks of a majority would be gone. The faults are those of the same seed.
func TestOrders(t *testing.T) {
	parks := shape
	parks.Parks = true
	var seen [kinds]int
	for seed := range uint64(500) {
		p := Draw(seed, parks)
		if !strings.HasPrefix(p.String(), Draw(seed, shape).String()) {
			t.Errorf("seed %d has other faults where clients park", seed)
		}
		if len(p.Orders) == 0 || len(p.Orders) > MaxOrders {
			t.Errorf("seed %d: %d orders", seed, len(p.Orders))
		}
		for i, o := range p.Orders {
			seen[o.Kind]++
			if o.Who.Client == (o.Kind == Lie) || o.Who.Client && o.Who.Number >= shape.Clients || o.Who.Number >= shape.Nodes {
				t.Errorf("seed %d: %v is not there: %v", seed, o.Who, o)
			}
			if o.At < shape.Start || o.Lasts > OrderLasts || o.End() > shape.Length-shape.Settle+OrdersOn || i > 0 && o.At < p.Orders[i-1].At {
				t.Errorf("seed %d: %v", seed, o)
			}
			for _, f := range p.Faults {
				if o.Kind == KickUnsaid && (f.Kind.disks() || f.Kind == Restart) && overlap(o, f, DiskApart) {
					t.Errorf("seed %d: %v and %v", seed, o, f)
				}
			}
		}
		if p.Healed() < p.Orders[len(p.Orders)-1].At {
			t.Errorf("seed %d is over before its last order", seed)
		}
	}
	for _, k := range orderKinds {
		if seen[k] < 20 {
			t.Errorf("%v was drawn %d times", k, seen[k])
		}
	}
}
