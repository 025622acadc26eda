package slicing

import (
	"errors"
	"math"
	"testing"
)

const mbit = 1_000_000

func capacities(mbits ...uint64) (agents []Capacity) {
	for _, m := range mbits {
		agents = append(agents, Capacity{Free: m * mbit})
	}
	return agents
}

func TestNeedIsTheFewestThatCarry(t *testing.T) {
	agents := capacities(100, 400, 0, 200)
	for _, c := range []struct {
		wanted uint64
		limit  int
		n      int
		ok     bool
	}{
		{0, 8, 1, true}, {1, 8, 1, true}, {400, 8, 1, true}, {401, 8, 2, true}, {600, 8, 2, true},
		{700, 8, 3, true}, {701, 8, 3, false}, {700, 2, 2, false}, {1, 0, 0, false}, {1, -1, 0, false},
	} {
		if n, ok := Need(c.wanted*mbit, agents, c.limit); n != c.n || ok != c.ok {
			t.Errorf("Need(%d Mbit/s, limit %d) = %d, %v, want %d, %v", c.wanted, c.limit, n, ok, c.n, c.ok)
		}
	}
	huge := []Capacity{{Free: math.MaxUint64}, {Free: math.MaxUint64}}
	if n, ok := Need(math.MaxUint64, huge, 8); n != 1 || !ok {
		t.Errorf("Need of everything = %d, %v", n, ok)
	}
	if n, ok := Need(5, nil, 8); n != 0 || ok {
		t.Errorf("Need of nobody = %d, %v", n, ok)
	}
}

func TestNeedIsMinimalAgainstEverySubset(t *testing.T) {
	agents := capacities(10, 70, 30, 50, 20)
	for wanted := uint64(1); wanted <= 190; wanted++ {
		fewest := len(agents) + 1
		for subset := range 1 << len(agents) {
			var sum uint64
			size := 0
			for i, a := range agents {
				if subset>>i&1 == 1 {
					sum, size = sum+a.Free, size+1
				}
			}
			if sum >= wanted*mbit && size < fewest {
				fewest = size
			}
		}
		n, ok := Need(wanted*mbit, agents, 8)
		if ok != (fewest <= len(agents)) || (ok && n != fewest) {
			t.Fatalf("Need(%d) = %d, %v, want %d", wanted, n, ok, fewest)
		}
	}
}

func TestNeedEqualBoundsEveryShare(t *testing.T) {
	agents := capacities(100, 400, 100, 100)
	for _, c := range []struct {
		wanted uint64
		n      int
		ok     bool
	}{{400, 1, true}, {401, 4, false}, {399, 1, true}} {
		if n, ok := NeedEqual(c.wanted*mbit, agents, 8); n != c.n || ok != c.ok {
			t.Errorf("NeedEqual(%d) = %d, %v, want %d, %v", c.wanted, n, ok, c.n, c.ok)
		}
	}
	if n, ok := NeedEqual(300*mbit, capacities(100, 100, 100), 8); n != 3 || !ok {
		t.Errorf("NeedEqual = %d, %v, want 3, true", n, ok)
	}
}

func TestWeight(t *testing.T) {
	of := func(free, offered uint64) Capacity { return Capacity{Free: free * mbit, Offered: offered * mbit} }
	for _, test := range []struct {
		name   string
		own    Capacity
		beside []Capacity
		given  []uint32
		want   uint32
	}{
		{"alone, idle", of(1000, 1000), nil, nil, 1000},
		{"alone, busy: with whom should it share", of(100, 1000), nil, nil, 1000},
		{"half as busy as the idlest", of(500, 1000), []Capacity{of(1000, 1000)}, nil, 500},
		{"the noise of one step", of(940, 1000), []Capacity{of(1000, 1000)}, nil, 1000},
		{"all busy alike: this session's own traffic", of(20, 1000), []Capacity{of(60, 1000), of(0, 1000)}, nil, 1000},
		{"never nothing", of(0, 1000), []Capacity{of(1000, 1000)}, nil, 125},
		{"twice the host", of(2000, 2000), []Capacity{of(1000, 1000)}, []uint32{1000}, 2000},
		{"equal hosts that measure apart", of(1150, 1150), []Capacity{of(1000, 1000)}, []uint32{1000}, 1000},
		{"the same, granted later and lower", of(850, 850), []Capacity{of(1000, 1000)}, []uint32{1000}, 1000},
		{"a third is the same, more is not", of(660, 660), []Capacity{of(1000, 1000)}, []uint32{1000}, 660},
		{"measured while the host was shared", of(728, 728), []Capacity{of(1000, 1000)}, []uint32{1000}, 1000},
		{"of a busy one a fifth", of(750, 1000), []Capacity{of(1000, 1000)}, []uint32{1000}, 750},
		{"nothing known", Capacity{}, nil, nil, 1},
		{"beyond the field", Capacity{Free: math.MaxUint64, Offered: math.MaxUint64}, nil, nil, 1 << 31},
	} {
		if got := Weight(test.own, test.beside, test.given); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestParseMode(t *testing.T) {
	for word, want := range map[string]Mode{"": Burst, "auto": Burst, "burst": Burst, "pin": Pin, "packet": Packet, "flowlet": Flowlet} {
		if got, err := ParseMode(word); err != nil || got != want {
			t.Errorf("ParseMode(%q) = %v, %v", word, got, err)
		}
	}
	for _, word := range []string{"Flowlet", "Burst", "rr"} {
		if _, err := ParseMode(word); !errors.Is(err, ErrMode) {
			t.Errorf("ParseMode(%q) = %v, want ErrMode", word, err)
		}
	}
	for _, m := range []Mode{Burst, Pin, Packet, Flowlet} {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("ParseMode(%v.String()) = %v, %v", m, got, err)
		}
	}
}
