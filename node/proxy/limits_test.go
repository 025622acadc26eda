package proxy

import (
	"net"
	"testing"
)

// TestMaxConnections: one connection too many is closed, and room is made
// again by those that end.
func TestMaxConnections(t *testing.T) {
	server, address := start(t, nil)
	server.mu.Lock()
	for range MaxConnections {
		raw, _ := net.Pipe()
		server.conns[&conn{Conn: raw, server: server}] = struct{}{}
	}
	server.mu.Unlock()
	c := dialProxy(t, address)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("one too many: %d, %v", n, err)
	}
	server.mu.Lock()
	for one := range server.conns {
		delete(server.conns, one)
		break
	}
	server.mu.Unlock()
	say(t, dialProxy(t, address), "05 01 00", "05 00")
}
