package probe

import "time"

// RTT is a smoothed round-trip time and its variance (RFC 6298 2.2, 2.3).
// The zero value has seen nothing.
type RTT struct {
	smoothed, variance time.Duration
}

// Observe takes one measurement.
func (r *RTT) Observe(sample time.Duration) {
	if sample < 0 {
		return
	}
	if r.smoothed == 0 {
		r.smoothed, r.variance = sample, sample/2
		return
	}
	r.variance += ((r.smoothed - sample).Abs() - r.variance) / 4
	r.smoothed += (sample - r.smoothed) / 8
}

// Smoothed is the estimate; 0 before the first measurement.
func (r *RTT) Smoothed() time.Duration { return r.smoothed }

// Silence is how long a peer may say nothing before it counts as silent:
// at least 300 ms, and enough for a probe interval on a slow or jittery path.
func (r *RTT) Silence() time.Duration {
	return max(300*time.Millisecond, r.smoothed+4*r.variance+100*time.Millisecond)
}
