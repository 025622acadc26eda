package slicing

import "slices"

// Capacity is what one agent has free of what it offers, in bit/s.
type Capacity struct{ Free, Offered uint64 }

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

// Weights in steps. Equal hosts measure up to 30 % apart when they are measured
// at the same time, so idle agents that differ less than by a part of
// SameWithin are the same, and busy ones by a part of SameBusyWithin.
const (
	WeightSteps    = 8 // parts of what an agent offers
	SameWithin     = 3
	SameBusyWithin = 5
	ShareKeeps     = 4 // a share that changes by less than this part of itself stays
)

// Weight is the weight of a slice on an agent: what it offers, in whole Mbit/s,
// less the steps by which it is busier than the idlest of the agents beside it.
// Load that they all share takes nothing away: it may be this very session's.
// If one of the weights given to the others is nearly the same, it is the same,
// so that equal agents have equal weights whenever their slices were granted.
func Weight(c Capacity, beside []Capacity, given []uint32) uint32 {
	const mega = 1_000_000
	idlest := c.idle()
	for _, other := range beside {
		idlest = max(idlest, other.idle())
	}
	steps := max(WeightSteps-int((idlest-c.idle())*WeightSteps+0.5), 1)
	weight := uint32(min(max(c.Offered/mega*uint64(steps)/WeightSteps, 1), 1<<31))
	within := uint32(SameBusyWithin)
	if steps == WeightSteps {
		within = SameWithin
	}
	for _, other := range given {
		if apart := max(weight, other) - min(weight, other); apart <= max(weight, other)/within {
			return other
		}
	}
	return weight
}

// Reweigh is the weights of all agents of a session as things are now. ok is
// false when no share would change by a part of ShareKeeps: then the present
// weights stay.
func Reweigh(agents []Capacity, present []uint32) (weights []uint32, ok bool) {
	for _, c := range agents {
		weights = append(weights, Weight(c, agents, weights))
	}
	var sum, was float64
	for i := range weights {
		sum, was = sum+float64(weights[i]), was+float64(present[i])
	}
	for i := range weights {
		share, before := float64(weights[i])/sum, float64(present[i])/was
		ok = ok || max(share, before)-min(share, before) > before/ShareKeeps
	}
	return weights, ok
}

// idle is the free part of what an agent offers, 0 to 1.
func (c Capacity) idle() float64 {
	if c.Offered == 0 {
		return 0
	}
	return min(float64(c.Free)/float64(c.Offered), 1)
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
