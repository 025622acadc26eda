package conntrack

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

func flows() []Flow {
	at := netip.MustParseAddrPort
	return []Flow{
		{
			Key:     Key{protoTCP, at("10.77.0.16:40000"), at("10.20.0.100:443")},
			NAT:     at("10.20.0.201:1025"),
			Replied: true, Assured: true, State: 3, Scales: [2]uint8{7, 9}, Flags: [2]uint8{3, 3}, Timeout: 432000,
		},
		{
			Key:     Key{protoUDP, at("[fd77::10]:53000"), at("[fd20::100]:53")},
			NAT:     at("[fd20::201]:53000"),
			Timeout: 30,
		},
		{
			Key: Key{protoICMP, at("10.77.0.16:77"), at("10.20.0.100:0")},
			NAT: at("10.20.0.201:4242"), Replied: true, Timeout: 29,
		},
	}
}

func TestFlowsSurviveTheirEncoding(t *testing.T) {
	for _, f := range flows() {
		b := append(f.Append(nil), "rest"...)
		got, rest, err := Parse(b)
		if err != nil || got != f || string(rest) != "rest" {
			t.Errorf("%+v became %+v, %q, %v", f, got, rest, err)
		}
		for n := range f.Append(nil) {
			if _, _, err := Parse(b[:n]); !errors.Is(err, ErrFlow) {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
	}
}

func TestFlowsThatAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Flow){
		"unknown protocol":    func(f *Flow) { f.Proto = 132 },
		"ICMP of the other":   func(f *Flow) { f.Proto = protoICMPv6; f.State = 0; f.Destination = withPort(f.Destination, 0) },
		"a state beyond":      func(f *Flow) { f.State = maxState + 1 },
		"a state of UDP":      func(f *Flow) { f.Proto = protoUDP },
		"an echo with a port": func(f *Flow) { f.Proto, f.State = protoICMP, 0 },
	} {
		f := flows()[0]
		spoil(&f)
		if _, _, err := Parse(f.Append(nil)); !errors.Is(err, ErrFlow) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := flows()[0].Append(nil)
	b[0] |= 0x80
	if _, _, err := Parse(b); !errors.Is(err, ErrFlow) {
		t.Errorf("an unknown bit: %v", err)
	}
}

func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}

// FuzzParse: what parses encodes to the same bytes.
func FuzzParse(f *testing.F) {
	for _, flow := range flows() {
		f.Add(flow.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, rest, err := Parse(b)
		if err != nil {
			return
		}
		if again := append(flow.Append(nil), rest...); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

// FuzzDecode: no message that a kernel could send makes it panic.
func FuzzDecode(f *testing.F) {
	for _, flow := range flows() {
		b, err := flow.created()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if flow, ok := decode(b); ok && flow.check() != nil {
			t.Errorf("%+v", flow)
		}
	})
}
