package slicing

// Picker chooses slices for one worker's runs of one session. The zero value
// is ready. It is owned by that worker; nothing in it is shared.
//
// Each slice has a lead: the bytes it carried beyond its share of all bytes.
// The slice that would be least ahead for its weight after another quantum is
// visited next, and the visit lasts while the quantum lasts. A run larger than
// what is left starts another visit; it is never split. So every slice is
// within a few quanta of its share at any time, and small packets travel in
// company.
type Picker struct {
	set     *Set
	lead    [MaxSlices]float64 // bytes ahead of the share; they sum to 0
	share   [MaxSlices]float64 // part of all bytes; 0: not usable
	slices  int                // entries of share that count
	usable  [MaxSlices]int     // the first count: those with a share
	count   int
	current int
	visit   int    // bytes of the present visit, not yet in lead
	packet  uint64 // packets given out in mode Packet
	hand    [MaxSlices]int

	flows *flows // nil before the first flow that must stay together
	last  *place // of the last such flow
}

// Pick returns the slice that carries the run; ok is false when none is
// usable. It does not allocate.
func (p *Picker) Pick(set *Set, r Run) (slice int, ok bool) {
	if set != p.set {
		p.adopt(set)
	}
	if p.count == 0 {
		return 0, false
	}
	switch {
	case !r.Sprayable || set.Mode == Pin:
		return p.pin(r), true
	case set.Mode == Packet:
		return p.deal(1)[0], true
	case set.Mode == Flowlet:
		return p.flowlet(r), true
	}
	return p.burst(r), true
}

// Deal gives out the packets of one run in mode Packet: packet i goes to slice
// hand[i mod len(hand)], and the next run goes on behind the last one. This is
// the patent's figure 7. The hand is empty when no slice is usable, and holds
// until the next call.
func (p *Picker) Deal(set *Set, packets int) (hand []int) {
	if set != p.set {
		p.adopt(set)
	}
	return p.deal(packets)
}

func (p *Picker) deal(packets int) []int {
	if p.count == 0 {
		return nil
	}
	first := int(p.packet % uint64(p.count))
	p.packet += uint64(packets)
	n := copy(p.hand[:], p.usable[first:p.count])
	copy(p.hand[n:], p.usable[:first])
	return p.hand[:p.count]
}

// adopt makes set the present one. Leads are bytes and stay, so fairness
// survives a change of weights; a slice that was not usable before starts
// level, it is not owed its absence. The visit ends, so a slice that became
// unusable gets nothing more.
func (p *Picker) adopt(set *Set) {
	p.settle()
	if p.flows != nil && (set == nil || p.set == nil || set.Step != p.set.Step) {
		*p.flows, p.last = flows{}, nil
	}
	p.set, p.slices, p.count = set, 0, 0
	was := p.share
	p.share = [MaxSlices]float64{}
	if set == nil {
		return
	}
	weights := set.usable()
	var total uint64
	for _, w := range weights {
		total += uint64(w)
	}
	p.slices = len(weights)
	var sum float64
	for i, w := range weights {
		if w == 0 || was[i] == 0 {
			p.lead[i] = 0
		}
		if w == 0 {
			continue
		}
		p.usable[p.count] = i
		p.count++
		p.share[i] = float64(w) / float64(total)
		sum += p.lead[i]
	}
	p.spread(sum)
}

// burst stays with the present slice while its visit has room for the run.
func (p *Picker) burst(r Run) int {
	size, quantum := runBytes(r), p.set.quantum()
	if p.visit == 0 || p.visit+size > quantum {
		p.settle()
		p.current = p.next(float64(quantum))
	}
	p.visit += size
	return p.current
}

// next is the usable slice that is least ahead for its weight after one more
// quantum; among equals the one with the lowest number.
func (p *Picker) next(quantum float64) int {
	best, least := -1, 0.0
	for i, share := range p.share[:p.slices] {
		if share == 0 {
			continue
		}
		if after := (p.lead[i] + quantum) / share; best < 0 || after < least {
			best, least = i, after
		}
	}
	return best
}

// settle books the present visit.
func (p *Picker) settle() {
	if p.visit > 0 {
		p.book(p.current, p.visit)
		p.visit = 0
	}
}

// book puts bytes on a slice: it is ahead by them, and all fall back by their
// share of them.
func (p *Picker) book(slice, size int) {
	p.lead[slice] += float64(size)
	p.spread(float64(size))
}

// spread takes bytes from all leads by share.
func (p *Picker) spread(size float64) {
	for i, share := range p.share[:p.slices] {
		p.lead[i] -= size * share
	}
}

// runBytes is what of a run is accounted: never 0, so that a visit ends.
func runBytes(r Run) int { return min(max(r.Bytes, 1), MaxRun) }
