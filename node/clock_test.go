package node

import (
	"testing"
	"time"
)

// TestPacketClock: it is boot time, also after a sleep, which the monotonic
// clock does not count and the wall clock does.
func TestPacketClock(t *testing.T) {
	near := func(c *packetClock) bool {
		d := time.Duration(c.now()) - bootTime()
		return -time.Second < d && d <= clockSlack
	}
	c := newPacketClock()
	if !near(c) {
		t.Errorf("new: %v, boot time is %v", time.Duration(c.now()), bootTime())
	}
	// As if boot and wall clock had gone on by an hour that nobody was awake in.
	c.offset.Add(-int64(time.Hour))
	c.apart.Add(-int64(time.Hour))
	if !near(c) {
		t.Error("a sleep was not noticed")
	}
	c.offset.Add(-int64(time.Hour))
	if near(c) {
		t.Error("read again for nothing")
	}
	if last := c.now(); c.now() < last {
		t.Error("goes backwards")
	}
}

func BenchmarkPacketClock(b *testing.B) {
	c := newPacketClock()
	for b.Loop() {
		c.now()
	}
}

func BenchmarkBootTime(b *testing.B) {
	for b.Loop() {
		bootTime()
	}
}
