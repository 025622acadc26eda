package protocol

import (
	"net"
	"time"
)

// Silence is how long a member or an arbiter may say nothing on their stream, over
// which each says something every 500 ms. A host that lost its power says no goodbye,
// and TCP by itself waits for a quarter of an hour.
const Silence = 3 * time.Second

// Alert is a connection whose reads fail when nothing has come for so long.
type Alert struct {
	net.Conn
	After time.Duration
}

// Read returns what comes next.
func (c Alert) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.After)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}
