package main

import (
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/client"
)

// clock is the time of one client's host. Each client stands for a host of its own, but
// the clients of a crew share one process: where that gets too little of the CPU they are
// slowed down together, and none may take itself for a host that stood still, drop its
// keys and come back, for what is measured then is this machine. So between two looks at
// it no more passes than mostPassing.
type clock struct {
	read func() time.Duration

	mu   sync.Mutex // protects what follows
	last time.Duration
	lost time.Duration // what passed and did not count
}

// mostPassing is longer than a client's tick, and far from what it takes for a stop.
const mostPassing = client.RestartAfter / 4

// now is the host's time.
func (c *clock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.read() - c.lost
	if over := now - c.last - mostPassing; over > 0 && c.last != 0 {
		c.lost += over
		now -= over
	}
	c.last = now
	return now
}
