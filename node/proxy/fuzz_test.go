package proxy

import (
	"net"
	"strconv"
	"testing"
)

// FuzzDestination: what a browser asks for is refused or means one thing.
func FuzzDestination(f *testing.F) {
	for _, text := range []string{"example.org:443", "[2001:db8::1]:80", "192.0.2.1:0", ":1", "a:65536", "[fe80::1%eth0]:1", "a:b:1", "\x00:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDestination(text)
		if err != nil {
			return
		}
		again, err := parseDestination(net.JoinHostPort(d.host, strconv.Itoa(int(d.port))))
		if err != nil || again != d {
			t.Errorf("%q is %+v, then %+v, %v", text, d, again, err)
		}
	})
}

// FuzzCredentials: only the text itself, less its line's end, is let in.
func FuzzCredentials(f *testing.F) {
	for _, text := range []string{"ann:secret\n", "ann:", ":secret", "a:b:c", "ann:secret\nbob:x", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCredentials(text)
		if err != nil {
			return
		}
		if again, err := ParseCredentials(c.User + ":" + c.Password); err != nil || *again != *c {
			t.Errorf("%q is %+v, then %+v, %v", text, c, again, err)
		}
		if !c.match(c.User, c.Password) || c.match(c.User, c.Password+"x") {
			t.Errorf("%q does not match itself alone", text)
		}
	})
}
