package slicing

import "slices"

// Capacity is what one agent has free, in bit/s.
type Capacity struct{ Free uint64 }

// Need is the fewest agents whose free capacity carries wanted bit/s, the
// freest first, and at most limit. ok is false when limit of them do not carry
// it; n is then how many of them have anything free. Nothing wanted needs one.
func Need(wanted uint64, agents []Capacity, limit int) (n int, ok bool) {
	var sum uint64
	for _, free := range freest(agents, limit) {
		if free == 0 {
			break
		}
		n++
		sum = saturate(sum, free)
		if sum >= wanted {
			return n, true
		}
	}
	return n, false
}

// NeedEqual is Need for equal shares of 1/n each (claim 3 of the patent):
// every one of the n must carry wanted/n.
func NeedEqual(wanted uint64, agents []Capacity, limit int) (n int, ok bool) {
	for i, free := range freest(agents, limit) {
		if free == 0 {
			break
		}
		n++
		share := (wanted + uint64(i)) / uint64(i+1)
		if free >= share {
			return n, true
		}
	}
	return n, false
}

// EqualWeight is the weight of every slice of a session with equal shares.
const EqualWeight = 1000

// WeightByFree is the weight of a slice on an agent with so much free: whole
// Mbit/s, at least 1. It is absolute, so slices granted at different times
// compare.
func WeightByFree(c Capacity) uint32 {
	const mega = 1_000_000
	return uint32(min(max(c.Free/mega, 1), 1<<31))
}

// freest is the free capacities, largest first, at most limit of them.
func freest(agents []Capacity, limit int) []uint64 {
	free := make([]uint64, len(agents))
	for i, a := range agents {
		free[i] = a.Free
	}
	slices.Sort(free)
	slices.Reverse(free)
	return free[:min(len(free), max(limit, 0))]
}

func saturate(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return ^uint64(0)
}
