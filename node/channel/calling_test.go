package channel

import (
	"net"
	"testing"
)

// quiet is a connection that calls, and where nothing ever is.
type quiet struct {
	net.Conn
	called func()
}

func (*quiet) Ready() bool { return false }
func (q *quiet) Readable(f func()) bool {
	q.called = f
	return true
}

// TestReady: what waits in TLS cannot be told; in records it is what came of one and was
// not read yet, or what waits below.
func TestReady(t *testing.T) {
	near, far := line(t)
	q := &quiet{Conn: far}
	c, s := shaken(t, Below(near), Below(q))
	client, server := Client(c, nil), Server(s, nil)
	if !server.Readable(func() {}) || q.called == nil || client.Readable(func() {}) {
		t.Error("it is not the connection below who calls")
	}
	if !server.Ready() {
		t.Error("in TLS it says that nothing is there")
	}
	ok(t, server.Leave())
	says(t, server, client, "records")
	_, err := client.Write([]byte("two words"))
	ok(t, err)
	hears(t, server, "two")
	if !server.Ready() {
		t.Error("half a record is not read, and it says that nothing is there")
	}
	hears(t, server, " words")
	if server.Ready() {
		t.Error("all was read, and it says that there is more")
	}
}
