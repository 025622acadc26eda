package channel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const hangLimit = 30 * time.Second

// line is a TCP connection of this host, both ends of it.
func line(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer l.Close()
	near, err = net.Dial("tcp", l.Addr().String())
	ok(t, err)
	far, err = l.Accept()
	ok(t, err)
	for _, c := range []net.Conn{near, far} {
		t.Cleanup(func() { c.Close() })
		ok(t, c.SetDeadline(time.Now().Add(hangLimit)))
	}
	return near, far
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shaken is a TLS connection over two ends.
func shaken(t *testing.T, near, far net.Conn) (client, server *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ok(t, err)
	server = tls.Server(far, &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	client = tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	ok(t, client.Handshake())
	ok(t, <-done)
	return client, server
}

// ends is a channel, still in TLS.
func ends(t *testing.T) (client, server *Conn) {
	t.Helper()
	near, far := line(t)
	c, s := shaken(t, Below(near), Below(far))
	return Client(c, nil), Server(s, nil)
}

// says writes at one end and reads at the other.
func says(t *testing.T, from, to net.Conn, word string) {
	t.Helper()
	_, err := io.WriteString(from, word)
	ok(t, err)
	hears(t, to, word)
}

func hears(t *testing.T, to net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != word {
		t.Fatalf("read %q, %v; want %q", got, err, word)
	}
}

// TestLeave: TLS is let go of at both ends, and nothing that was said is lost: not what
// comes right behind the last word in TLS, nor what the other end said meanwhile.
func TestLeave(t *testing.T) {
	client, server := ends(t)
	says(t, client, server, "hello")
	_, err := io.WriteString(client, "meanwhile") // it does not know yet
	ok(t, err)
	_, err = io.WriteString(server, "in TLS")
	ok(t, err)
	ok(t, server.Leave())
	_, err = io.WriteString(server, "behind it")
	ok(t, err)
	hears(t, client, "in TLS")
	if client.writes == nil {
		t.Fatal("the client left before it heard that it may")
	}
	hears(t, client, "behind it")
	_, err = io.WriteString(client, "and I")
	ok(t, err)
	hears(t, server, "meanwhile")
	hears(t, server, "and I")
}

// counted is a connection whose writes are counted.
type counted struct {
	net.Conn
	writes atomic.Int32
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestLeavesInOneWrite: the end of TLS goes with the first record behind it, at both ends, and with
// the end of records where there is no other.
func TestLeavesInOneWrite(t *testing.T) {
	near, far := line(t)
	at, to := &counted{Conn: near}, &counted{Conn: far}
	c, s := shaken(t, Below(at), Below(to))
	client, server := Client(c, nil), Server(s, nil)
	says(t, client, server, "hello")
	for _, end := range []struct {
		*counted
		from, to *Conn
	}{{to, server, client}, {at, client, server}} {
		before := end.writes.Load()
		ok(t, end.from.Leave())
		says(t, end.from, end.to, "first")
		if n := end.writes.Load() - before; n != 1 {
			t.Errorf("%d writes to leave and say a word", n)
		}
		if says(t, end.from, end.to, "second"); end.writes.Load()-before != 2 {
			t.Error("what was said is said again, or kept")
		}
	}
	client, server = ends(t)
	ok(t, server.Leave())
	ok(t, server.Close())
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an end without a word is none: %v", err)
	}
}

// TestNothingIsKept: once both have left, neither end holds anything of TLS.
func TestNothingIsKept(t *testing.T) {
	client, server := left(t)
	for _, c := range []*Conn{client, server} {
		if c.reads != nil || c.writes != nil {
			t.Error("an end holds on to TLS")
		}
		if _, wrapped := c.Conn.(*below); wrapped {
			t.Error("an end holds on to what was below TLS")
		}
	}
	ok(t, server.Leave()) // a second time changes nothing
	says(t, server, client, "one")
	says(t, client, server, "two")
}

// left is a channel that has left TLS both ways.
func left(t *testing.T) (client, server *Conn) {
	t.Helper()
	client, server = ends(t)
	ok(t, server.Leave())
	says(t, server, client, "records")
	says(t, client, server, "records")
	return client, server
}

// TestInTheCrowd: words that others say while an end leaves come whole and in order.
func TestInTheCrowd(t *testing.T) {
	const words = 2000
	client, server := ends(t)
	count := func(c net.Conn) {
		for n := range uint32(words) {
			if _, err := c.Write(binary.BigEndian.AppendUint32(nil, n)); err != nil {
				t.Errorf("word %d: %v", n, err)
			}
			if n == words/2 && c == net.Conn(server) {
				go server.Leave()
			}
		}
	}
	heard := make(chan struct{}, 2)
	for _, c := range []net.Conn{client, server} {
		go count(c)
		go func() {
			defer func() { heard <- struct{}{} }()
			for n := range uint32(words) {
				var b [4]byte
				if _, err := io.ReadFull(c, b[:]); err != nil || binary.BigEndian.Uint32(b[:]) != n {
					t.Errorf("heard %x, %v; want %d", b, err, n)
					return
				}
			}
		}()
	}
	<-heard
	<-heard
}

// TestOlderBuilds: an end whose other one knows no channel stays in TLS until its end.
func TestOlderBuilds(t *testing.T) {
	near, far := line(t)
	older, secure := shaken(t, near, Below(far))
	server := Server(secure, nil)
	says(t, older, server, "to the arbiter")
	says(t, server, older, "to an older client")
	older.Close()
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the older client's end: %v", err)
	}
	near, far = line(t)
	secure, older = shaken(t, Below(near), far)
	client := Client(secure, nil)
	says(t, client, older, "to an older arbiter")
	says(t, older, client, "to the client")
	older.Close()
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the older arbiter's end: %v", err)
	}
}

// TestEnds: an end that is said is told from a cut, in records as before.
func TestEnds(t *testing.T) {
	client, server := left(t)
	ok(t, client.Close())
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an end: %v", err)
	}
	client, server = left(t)
	ok(t, client.Conn.Close())
	if _, err := server.Read(make([]byte, 1)); err != io.ErrUnexpectedEOF {
		t.Errorf("a cut: %v", err)
	}
	client, server = ends(t)
	ok(t, client.Close())
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("an end in TLS: %v", err)
	}
}

// endless is a connection that goes on behind its end, as a gateway could have it.
type endless struct {
	net.Conn
	cut atomic.Bool
}

func (e *endless) Read(b []byte) (int, error) {
	if e.cut.Swap(false) {
		return 0, io.EOF
	}
	return e.Conn.Read(b)
}

// TestCutIsNoWordToLeave: who carries the connection can end TLS before its end was said,
// but not have the client go on in records.
func TestCutIsNoWordToLeave(t *testing.T) {
	near, far := line(t)
	gateway := &endless{Conn: near}
	secure, server := shaken(t, Below(gateway), Below(far))
	client := Client(secure, nil)
	says(t, client, Server(server, nil), "hello")
	gateway.cut.Store(true)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF || client.writes == nil {
		t.Errorf("it left TLS at a cut, or reads %v", err)
	}
}

// mute is a connection by which nothing can be sent any more.
type mute struct {
	net.Conn
	now atomic.Bool
}

var errMute = errors.New("nothing can be sent")

func (m *mute) Write(b []byte) (int, error) {
	if m.now.Load() {
		return 0, errMute
	}
	return m.Conn.Write(b)
}

// TestNothingToLeaveBy: a client that cannot say its own end, when it has heard the arbiter's,
// finds out by its first word.
func TestNothingToLeaveBy(t *testing.T) {
	near, far := line(t)
	way := &mute{Conn: near}
	secure, server := shaken(t, Below(way), Below(far))
	client := Client(secure, nil)
	says(t, client, Server(server, nil), "hello")
	way.now.Store(true)
	arbiter := Server(server, nil)
	ok(t, arbiter.Leave())
	says(t, arbiter, client, "behind it")
	for range 2 {
		if _, err := client.Write([]byte("and I")); err != errMute {
			t.Errorf("it writes, and %v", err)
		}
	}
}

// TestNothingIsKeptOfTLS: who stays in TLS when the arbiter has left can have it answer updates of
// keys without end. Those answers go nowhere, and take no memory.
func TestNothingIsKeptOfTLS(t *testing.T) {
	_, server := ends(t)
	under := server.writes.NetConn()
	ok(t, server.Leave())
	for range 3 {
		if n, err := under.Write(make([]byte, 27)); n != 27 || err != nil {
			t.Fatalf("%d bytes written, %v", n, err)
		}
	}
	if late := under.(*below).last(); len(late) > 0 {
		t.Errorf("%d bytes are kept", len(late))
	}
}

// TestGoodbyeIsBounded, in TLS and behind it: one who takes nothing is not waited for.
func TestGoodbyeIsBounded(t *testing.T) {
	for _, behind := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			c, s := shaken(t, Below(near), Below(far))
			client, server := Client(c, nil), Server(s, nil)
			if behind {
				go server.Leave()
				go client.Read(make([]byte, 1))
				go server.Read(make([]byte, 1)) // the end of TLS, and one byte
				synctest.Wait()
				_, err := client.Write([]byte("a"))
				ok(t, err)
				synctest.Wait()
			}
			began := time.Now()
			if client.Close(); time.Since(began) != GoodbyeWithin {
				t.Errorf("behind TLS: %t, it took %v", behind, time.Since(began))
			}
		})
	}
}

// TestReadAhead: a TLS connection that may hold what comes behind it is not left.
func TestReadAhead(t *testing.T) {
	near, far := line(t)
	client, secure := shaken(t, near, far)
	server := Server(secure, nil)
	if err := server.Leave(); err != ErrStays {
		t.Error(err)
	}
	says(t, server, client, "still TLS")
}

// TestDeadlines are the user's own, before and behind: crypto/tls says its end within one
// that it leaves in the past.
func TestDeadlines(t *testing.T) {
	client, server := left(t)
	ok(t, server.SetReadDeadline(time.Now()))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read: %v", err)
	}
	ok(t, server.SetReadDeadline(time.Time{}))
	says(t, client, server, "later")
	ok(t, server.SetWriteDeadline(time.Now()))
	if _, err := server.Write([]byte("a")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write: %v", err)
	}
}

// TestCloseWaitsForNobody: one who is in the middle of a word that nobody takes does not
// keep the connection open.
func TestCloseWaitsForNobody(t *testing.T) {
	client, server := left(t)
	stuck := make(chan error, 1)
	go func() {
		_, err := server.Write(bytes.Repeat([]byte("a"), 64<<20))
		stuck <- err
	}()
	hears(t, client, "a") // it has begun
	began := time.Now()
	ok(t, server.Close())
	if took := time.Since(began); took > hangLimit/2 {
		t.Errorf("it waited for %v", took)
	}
	if err := <-stuck; err == nil {
		t.Error("the word was said to nobody")
	}
}

// single notes whether somebody writes beside another.
type single struct {
	net.Conn
	now    atomic.Int32
	beside atomic.Bool
}

func (s *single) Write(b []byte) (int, error) {
	if s.now.Add(1) > 1 {
		s.beside.Store(true)
	}
	defer s.now.Add(-1)
	<-time.After(time.Millisecond)
	return s.Conn.Write(b)
}

// TestOneWordAtATime: beats are said by others than words, and two records made at once would
// share a number (I2).
func TestOneWordAtATime(t *testing.T) {
	near, far := line(t)
	alone := &single{Conn: far}
	c, s := shaken(t, Below(near), Below(alone))
	client, server := Client(c, nil), Server(s, nil)
	ok(t, server.Leave())
	const words = "aaaaaaaa"
	for range words {
		go server.Write([]byte("a"))
	}
	if hears(t, client, words); alone.beside.Load() {
		t.Error("two wrote at once")
	}
}

// numbers keeps what it is told.
type numbers struct{ told atomic.Uint64 }

func (n *numbers) Reserved(_ [16]byte, _, count uint64) { n.told.Add(count) }

// TestLedgerHears of each record, so that a run can tell a nonce used twice (I2).
func TestLedgerHears(t *testing.T) {
	near, far := line(t)
	c, s := shaken(t, Below(near), Below(far))
	var led numbers
	client, server := Client(c, &led), Server(s, &led)
	ok(t, server.Leave())
	says(t, server, client, "one")
	says(t, client, server, "two")
	ok(t, server.Close())
	if got := led.told.Load(); got != 3 {
		t.Errorf("heard of %d records, want 3", got)
	}
}
