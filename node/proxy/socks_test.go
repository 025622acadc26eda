package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
)

// ask sends a request and reads the reply.
func ask(t *testing.T, c net.Conn, command byte, address []byte) (code byte, bound destination) {
	t.Helper()
	if _, err := c.Write(append([]byte{socksVersion, command, 0}, address...)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 3)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	bound, err := readAddress(c)
	if err != nil || head[0] != socksVersion || head[2] != 0 {
		t.Fatalf("reply % x: %v", head, err)
	}
	return head[1], bound
}

func named(name string, port uint16) []byte {
	return append(append([]byte{addressName, byte(len(name))}, name...), byte(port>>8), byte(port))
}

func TestConnect(t *testing.T) {
	v4, v6 := echoTCP(t, "127.0.0.1:0"), echoTCP(t, "[::1]:0")
	_, address := start(t, nil)
	for name, to := range map[string][]byte{
		"IPv4": appendAddress(nil, v4), "IPv6": appendAddress(nil, v6),
		"name, second address": named(knownName, v4.Port()), "address as name": named("127.0.0.1", v4.Port()),
	} {
		c := dialProxy(t, address)
		say(t, c, "05 02 02 00", "05 00")
		if code, bound := ask(t, c, commandConnect, to); code != socksDone || bound.port == 0 {
			t.Fatalf("%s: reply %d, %v", name, code, bound)
		}
		sent := bytes.Repeat([]byte(name), 100_000)
		go func() {
			c.Write(sent)
			c.CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%s: %d bytes of %d back, %v", name, len(got), len(sent), err)
		}
	}
}

// TestConnectRefusals: each failure has its own code, and nothing is leaked to
// a destination that the network does not reach.
func TestConnectRefusals(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	_, address := start(t, nil)
	for name, want := range map[string]struct {
		command byte
		to      []byte
		code    byte
	}{
		"outside":             {commandConnect, appendAddress(nil, netip.MustParseAddrPort("192.0.2.1:80")), socksNotAllowed},
		"nobody listens":      {commandConnect, appendAddress(nil, closed), socksRefused},
		"unknown name":        {commandConnect, named("nowhere.example", 80), socksHostUnreachable},
		"no DNS":              {commandConnect, named("nobody.example", 80), socksHostUnreachable},
		"BIND":                {2, appendAddress(nil, closed), socksUnknownCommand},
		"no such command":     {9, appendAddress(nil, closed), socksUnknownCommand},
		"no such addresstype": {commandConnect, []byte{2}, socksUnknownAddressType},
	} {
		c := dialProxy(t, address)
		say(t, c, "05 01 00", "05 00")
		if code, _ := ask(t, c, want.command, want.to); code != want.code {
			t.Errorf("%s: reply %d, want %d", name, code, want.code)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the connection stays", name)
		}
	}
}

func TestSOCKSPassword(t *testing.T) {
	to := echoTCP(t, "127.0.0.1:0")
	_, address := start(t, &Credentials{"ann", "secret"})
	c := dialProxy(t, address)
	say(t, c, "05 02 00 02", "05 02")
	say(t, c, fmt.Sprintf("01 03 %x 06 %x", "ann", "secret"), "01 00")
	if code, _ := ask(t, c, commandConnect, appendAddress(nil, to)); code != socksDone {
		t.Errorf("reply %d", code)
	}
	for name, words := range map[string][2]string{
		"method not offered": {"05 01 00", "05 ff"},
		"wrong password":     {fmt.Sprintf("05 01 02 01 03 %x 06 %x", "ann", "SECRET"), "05 02 01 01"},
		"wrong user":         {fmt.Sprintf("05 01 02 01 03 %x 06 %x", "bob", "secret"), "05 02 01 01"},
	} {
		c := dialProxy(t, address)
		say(t, c, words[0], words[1])
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
	}
}

func TestParseCredentials(t *testing.T) {
	if c, err := ParseCredentials("ann:se:cret\r\n"); err != nil || *c != (Credentials{"ann", "se:cret"}) {
		t.Errorf("%v, %v", c, err)
	}
	for _, bad := range []string{"", "ann", "ann:", ":secret", "ann:a\nbob:b\n", string(make([]byte, 256)) + ":x"} {
		if _, err := ParseCredentials(bad); !errors.Is(err, ErrCredentials) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

// TestNotAProxyProtocol: what is neither SOCKS5 nor HTTP is closed.
func TestNotAProxyProtocol(t *testing.T) {
	_, address := start(t, nil)
	for _, bad := range []string{"04 01 00 50 7f 00 00 01 00", "16 03 01", "05 01 00 04 01 00 01 7f 00 00 01 00 50"} {
		c := dialProxy(t, address)
		c.Write(unhex(t, bad))
		if got, err := io.ReadAll(c); err == nil && len(got) > 2 {
			t.Errorf("%s: answered % x", bad, got)
		}
	}
}

// FuzzRequest: garbage is an error, and what is read can be written again.
func FuzzRequest(f *testing.F) {
	f.Add([]byte{5, 1, 0, 1, 127, 0, 0, 1, 0, 80})
	f.Add(append([]byte{5, 3, 0}, named(knownName, 53)...))
	f.Add(append([]byte{5, 1, 0, 4}, make([]byte, 18)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, to, err := readRequest(bytes.NewReader(b))
		if err != nil {
			return
		}
		at, err := netip.ParseAddr(to.host)
		if err != nil {
			if again, err := readAddress(bytes.NewReader(named(to.host, to.port))); err != nil || again != to {
				t.Errorf("%v, then %v, %v", to, again, err)
			}
			return
		}
		again, err := readAddress(bytes.NewReader(appendAddress(nil, netip.AddrPortFrom(at, to.port))))
		if err != nil || netip.MustParseAddr(again.host) != at.Unmap() || again.port != to.port {
			t.Errorf("%v, then %v, %v", to, again, err)
		}
	})
}

// FuzzDatagram: whatever a program sends by UDP, it is read or refused.
func FuzzDatagram(f *testing.F) {
	f.Add(append([]byte{0, 0, 0, 1, 127, 0, 0, 1, 0, 53}, "query"...))
	f.Add(append([]byte{0, 0, 0}, named(knownName, 53)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		to, payload, err := readDatagram(b)
		if err == nil && (to.port == 0 || to.host == "" || !bytes.HasSuffix(b, payload)) {
			t.Errorf("%v, %d bytes of %d", to, len(payload), len(b))
		}
	})
}
