package client

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// The dataflow test (patent, step 4a): every probe measures its slice's path,
// a fresh slice is probed at once and carries nothing beside measured ones
// until it is measured itself, and what the paths differ by decides how calm
// the mode has to be. The arbiter hears of it, for the way down.

// measured notes a probe's answer and reports whether the path is now known.
func (p *pulse) measured(sequence uint32, now time.Duration) (first bool) {
	was := p.meter.Measured()
	p.meter.Answered(sequence, now)
	return !was && p.meter.Measured()
}

// known reports whether a proven slice's path is measured.
func (s *slice) known() bool { return s.proven() && s.pulse.meter.Measured() }

// superviseDataflow compares the paths of all slices that may carry traffic.
func (c *Client) superviseDataflow(now time.Duration) {
	var paths []slicing.Path
	for _, s := range c.slices {
		if s.proven() && !s.spare {
			paths = append(paths, s.pulse.meter.Path(now))
		}
	}
	if c.flow.Judge(now, paths) {
		c.dirty = true
		c.aliveAt = 0 // the egress is to know at once
	}
}

// measures is what the arbiter hears of the paths.
func (c *Client) measures(now time.Duration) (flow protocol.Flow, paths []protocol.Path) {
	for _, key := range c.sortedKeys() {
		s := c.slices[key]
		if p := s.pulse.meter.Path(now); s.usable() && p.Measured {
			paths = append(paths, protocol.Path{
				Number: key.number, Epoch: key.epoch, Delay: uint32(p.Delay.Microseconds()),
				Loss: uint32(1000 * p.Loss), Reordered: uint32(1000 * p.Reordered), Direct: s.direct.inUse(),
			})
		}
	}
	return protocol.FlowOf(c.flow.Skew(), c.flow.Gap()), paths
}
