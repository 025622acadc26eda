package channel

import "net"

// calling is a connection that calls who wants to read it, as loop.Calling says.
type calling interface {
	Ready() bool
	Readable(f func()) bool
}

// caller is the one that a connection stands on; nil where nothing below calls.
func caller(c net.Conn) calling {
	for {
		switch here := c.(type) {
		case calling:
			return here
		case interface{ NetConn() net.Conn }:
			c = here.NetConn()
		default:
			return nil
		}
	}
}

// Ready reports whether a read may return at once. In TLS that cannot be told.
func (c *Conn) Ready() bool {
	below := caller(c.Conn)
	return c.reads != nil || !c.in.Between() || below == nil || below.Ready()
}

// Readable has f called whenever Ready may have become true, if anything below does that.
func (c *Conn) Readable(f func()) bool {
	below := caller(c.Conn)
	return below != nil && below.Readable(f)
}
