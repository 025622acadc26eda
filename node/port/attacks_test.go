package port

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestGatewayThatTampers: a gateway relays the client's connection, in which
// the hello, the login, the grants and the shares travel (M1 to M3), unopened.
// Whichever byte it changes, in either direction, neither end ever reads
// anything but what the other said.
func TestGatewayThatTampers(t *testing.T) {
	sent, err := tamper(t, -1, true)
	if sent[0] < 1000 || sent[1] < 1000 || err != nil {
		t.Fatalf("%v bytes passed: %v", sent, err)
	}
	const goodbye = 24 // the record that closes comes after all was said
	for way, total := range sent {
		for at := 0; at < total; at += 1 + total/128 {
			if _, err := tamper(t, at, way == 0); err == nil && at < total-goodbye {
				t.Errorf("byte %d of %d changed, upwards %v: nobody noticed", at, total, way == 0)
			}
		}
	}
}

// tamper lets one connection be relayed with byte at changed, upwards or
// downwards, and returns how many bytes went each way and what the client saw.
func tamper(t *testing.T, at int, up bool) (sent [2]int, err error) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		said := []byte("the password and the grants")
		p.Handle(ALPNClient, ca.config(ALPNClient), func(conn *tls.Conn, _ netip.AddrPort) {
			defer conn.Close()
			b := make([]byte, len(said))
			if _, err := io.ReadFull(conn, b); err == nil && !bytes.Equal(b, said) {
				t.Errorf("byte %d up %v: the arbiter read %q", at, up, b)
			}
			_, _ = conn.Write(b)
		})
		client, relay := net.Pipe()
		far := dial(p, stranger)
		upwards, downwards := &changed{Conn: far, at: -1}, &changed{Conn: relay, at: -1}
		if up {
			upwards.at = at
		} else {
			downwards.at = at
		}
		go func() { _, _ = io.Copy(upwards, relay); far.Close() }()
		go func() { _, _ = io.Copy(downwards, far); relay.Close() }()
		conn := tls.Client(client, ca.config(ALPNClient))
		answer := make([]byte, len(said))
		_, err = conn.Write(said)
		if err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		if err == nil && !bytes.Equal(answer, said) {
			t.Errorf("byte %d up %v: the client read %q", at, up, answer)
		}
		client.Close()
		synctest.Wait()
		sent = [2]int{int(upwards.n.Load()), int(downwards.n.Load())}
	})
	return sent, err
}

// changed flips a bit of one byte of what is written.
type changed struct {
	net.Conn
	at int
	n  atomic.Int64
}

func (c *changed) Write(b []byte) (int, error) {
	begin := int(c.n.Load())
	c.n.Add(int64(len(b)))
	if i := c.at - begin; c.at >= 0 && i >= 0 && i < len(b) {
		b = bytes.Clone(b)
		b[i] ^= 4
	}
	return c.Conn.Write(b)
}
