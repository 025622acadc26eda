package slicing

import "time"

// Path is what probes measured of one slice's path lately.
type Path struct {
	Delay     time.Duration // the least round trip: what the path itself takes
	Late      time.Duration // the longest one
	Loss      float64       // part of the probes that was not answered in time
	Reordered float64       // part of the answers that came behind a newer one
	Measured  bool          // enough answers to go by
}

// Meter measures one slice's path by its probes. The zero value is ready. It
// is owned by one goroutine.
type Meter struct {
	probes  [ProbeWindow]probe
	next    int
	highest uint32 // newest sequence answered
}

type probe struct {
	sequence  uint32
	sent      time.Duration
	took      time.Duration // 0: not answered
	held      bool
	overtaken bool
}

// Asked notes a probe that was sent.
func (m *Meter) Asked(sequence uint32, now time.Duration) {
	m.probes[m.next] = probe{sequence: sequence, sent: now, held: true}
	m.next = (m.next + 1) % ProbeWindow
}

// Answered notes the answer to a probe.
func (m *Meter) Answered(sequence uint32, now time.Duration) {
	for i := range m.probes {
		p := &m.probes[i]
		if p.held && p.sequence == sequence && p.took == 0 {
			p.took = max(now-p.sent, 1)
			p.overtaken = sequence < m.highest
			m.highest = max(m.highest, sequence)
		}
	}
}

// Measured reports whether the path is known well enough to carry traffic.
func (m *Meter) Measured() bool { return m.Path(0).Measured }

// Path is the measurement as of now. Delays are those of the newest answers,
// so that a path that got slower shows within half a second of probing.
func (m *Meter) Path(now time.Duration) Path {
	var path Path
	var due, answered, overtaken, lost int
	for i := range ProbeWindow {
		p := m.probes[(m.next-1-i+2*ProbeWindow)%ProbeWindow] // newest first
		switch {
		case !p.held:
		case p.took > 0:
			if answered == 0 || p.took < path.Delay && answered < DelayProbes {
				path.Delay = p.took
			}
			path.Late = max(path.Late, p.took)
			if p.overtaken {
				overtaken++
			}
			answered, due = answered+1, due+1
		case now-p.sent > LostAfter:
			lost, due = lost+1, due+1
		}
	}
	path.Measured = answered >= MinProbes
	if due > 0 {
		path.Loss = float64(lost) / float64(due)
	}
	if answered > 0 {
		path.Reordered = float64(overtaken) / float64(answered)
	}
	return path
}

// Dataflow is the patent's test of a session's paths against each other (step
// 4a), before and while they are used. The zero value knows nothing yet. It is
// owned by one goroutine.
type Dataflow struct {
	skew, gap rung
}

// Judge takes the paths of all slices that may carry traffic. changed says
// that Skew or Gap did.
func (d *Dataflow) Judge(now time.Duration, paths []Path) (changed bool) {
	var least, most, late time.Duration
	for i, p := range paths {
		if !p.Measured {
			return false // what is not known yet is no reason to change anything
		}
		if i == 0 {
			least = p.Delay
		}
		least, most, late = min(least, p.Delay), max(most, p.Delay), max(late, p.Late)
	}
	if len(paths) < 2 {
		return false
	}
	skewed, gapped := d.skew.step(now, most-least), d.gap.step(now, late-least)
	return skewed || gapped
}

// Skew is how much slower than the fastest path the slowest is, rounded up to
// a rung of LeastSkew, twice that and so on; 0 while it is not known.
func (d *Dataflow) Skew() time.Duration { return d.skew.value }

// Gap is the same of single packets, delays in queues included.
func (d *Dataflow) Gap() time.Duration { return d.gap.value }

// rung rises at once and falls when it was lower for SkewHolds.
type rung struct {
	value  time.Duration
	needed time.Duration // when the present value was needed last
}

func (r *rung) step(now, measured time.Duration) (changed bool) {
	value := LeastSkew
	for value < measured && value < MostSkew {
		value *= 2
	}
	if value >= r.value || now-r.needed > SkewHolds {
		changed = value != r.value
		r.value = value
	}
	if value == r.value {
		r.needed = now
	}
	return changed
}

// Calm is the mode that paths of such a skew bear: spraying one flow over
// paths that differ by more than SkewLimit would cost more than it gives, and
// flowlets use the same slices without reordering. Who asks for packet gets
// the letter.
func Calm(wanted Mode, skew time.Duration) Mode {
	if wanted == Burst && skew > SkewLimit {
		return Flowlet
	}
	return wanted
}
