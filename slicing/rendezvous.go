package slicing

import (
	"math"
	"math/bits"
)

// Rendezvous is the slice with the highest score for the flow, weighted so
// that flows fall to slices in proportion to their weights; -1 when none is
// usable. A score depends on that slice and its weight alone: when a slice
// leaves, only its own flows move, and when one comes, flows move only to it.
func Rendezvous(weights []uint32, flow uint64) int {
	best, highest := -1, -1.0
	for i, w := range weights {
		if w == 0 {
			continue
		}
		if score := float64(w) / draw(flow, uint64(i)); score > highest {
			best, highest = i, score
		}
	}
	return best
}

// draw is an exponentially distributed number above 0 made from flow and
// slice: the race that the smallest draw per weight wins.
func draw(flow, slice uint64) float64 {
	u := float64(mix(flow^mix(slice+1))>>11|1) * 0x1p-53
	return -math.Log(u)
}

// mix spreads every input bit over the word.
func mix(x uint64) uint64 {
	high, low := bits.Mul64(x^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	x = high ^ low ^ x>>32
	high, low = bits.Mul64(x^0xa0761d6478bd642f, 0xe7037ed1a0b428db)
	return high ^ low
}
