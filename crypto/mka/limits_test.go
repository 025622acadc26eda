package mka

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// TestSizes holds the figures of DESIGN.md; an Accept fits the smallest IPv6
// packet with no fragment, and a Confirm never outgrows what asked for it.
func TestSizes(t *testing.T) {
	s := newScene(t).start()
	confirm, _, err := s.agent.Accept(s.acceptData)
	must(t, err)
	if len(s.acceptData) != AcceptSize || AcceptSize > MaxDatagram || MaxDatagram != 1280-40-8 {
		t.Errorf("accept of %d bytes, AcceptSize %d", len(s.acceptData), AcceptSize)
	}
	if AcceptSize != 1230 || ConfirmSize != 62 || PrekeySize != 1370 {
		t.Errorf("sizes %d %d %d are not DESIGN.md's", AcceptSize, ConfirmSize, PrekeySize)
	}
	if len(confirm) != ConfirmSize || len(confirm) > len(s.acceptData) {
		t.Errorf("confirm of %d bytes", len(confirm))
	}
	if len(s.prekey) != PrekeySize {
		t.Errorf("prekey of %d bytes", len(s.prekey))
	}
	must(t, s.client.Confirm(confirm))
	offer := s.offerParts(2)
	answer, _ := s.answerParts(offer, 0x2000)
	for _, p := range append(offer, answer...) {
		if len(p) > MaxPart {
			t.Errorf("part of %d bytes", len(p))
		}
	}
	if rekeyOfferSize > MaxRekey || AcceptSize > MaxRekey {
		t.Error("a rekey message does not fit its parts")
	}
}

func TestHelloLimits(t *testing.T) {
	h := newScene(t).offer()
	full := h
	full.Versions, full.Suites = nil, nil
	for i := range MaxVersions {
		full.Versions = append(full.Versions, uint16(i))
	}
	for i := range MaxSuites {
		full.Suites = append(full.Suites, esp.Suite(i))
	}
	full.Peer = strings.Repeat("x", MaxPeer)
	got, err := ParseHello(full.Marshal())
	if err != nil || !reflect.DeepEqual(got, full) {
		t.Fatalf("hello at its limits: %v", err)
	}
	for name, change := range map[string]func(*Hello){
		"no version":       func(h *Hello) { h.Versions = nil },
		"no suite":         func(h *Hello) { h.Suites = nil },
		"version twice":    func(h *Hello) { h.Versions = []uint16{1, 1} },
		"suite twice":      func(h *Hello) { h.Suites = []esp.Suite{1, 1} },
		"versions":         func(h *Hello) { h.Versions = append(full.Versions[:MaxVersions:MaxVersions], 99) },
		"suites":           func(h *Hello) { h.Suites = append(full.Suites[:MaxSuites:MaxSuites], 99) },
		"long peer":        func(h *Hello) { h.Peer = strings.Repeat("x", MaxPeer+1) },
		"newline in peer":  func(h *Hello) { h.Peer = "a\nb" },
		"escape in peer":   func(h *Hello) { h.Peer = "\x1b[2J" },
		"C1 in peer":       func(h *Hello) { h.Peer = "\u009b2J" },
		"peer not in utf8": func(h *Hello) { h.Peer = "\xff" },
	} {
		bad := h
		change(&bad)
		if err := bad.Validate(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		panics(t, name, func() { bad.Marshal() })
	}
}

func TestGrantLimits(t *testing.T) {
	s := newScene(t)
	full := s.grant
	full.Gateways, full.Leases = nil, nil
	for range MaxGateways {
		full.Gateways = append(full.Gateways, netip.MustParseAddrPort("[2001:db8::1]:6484"))
	}
	for range MaxLeases {
		full.Leases = append(full.Leases, netip.MustParseAddr("fd00::1"))
	}
	full.Mode = strings.Repeat("m", MaxMode)
	got, err := ParseGrant(SignGrant(s.arbiter, full), s.arbiter.Public())
	if err != nil || !reflect.DeepEqual(got, full) {
		t.Fatalf("grant at its limits: %v", err)
	}
	for name, change := range map[string]func(*Grant){
		"gateways":       func(g *Grant) { g.Gateways = append(full.Gateways[:MaxGateways:MaxGateways], full.Gateways[0]) },
		"leases":         func(g *Grant) { g.Leases = append(full.Leases[:MaxLeases:MaxLeases], full.Leases[0]) },
		"long mode":      func(g *Grant) { g.Mode += "m" },
		"no gateway":     func(g *Grant) { g.Gateways = []netip.AddrPort{{}} },
		"mapped gateway": func(g *Grant) { g.Gateways = []netip.AddrPort{netip.MustParseAddrPort("[::ffff:1.2.3.4]:1")} },
		"zoned lease":    func(g *Grant) { g.Leases = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} },
		"version":        func(g *Grant) { g.Version = 2 },
		"no node":        func(g *Grant) { g.SPI = 300 },
		"agent":          func(g *Grant) { g.Agent[0] ^= 1 },
	} {
		bad := full
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
		panics(t, name, func() { SignGrant(s.arbiter, bad) })
	}
}

// TestSignedGrantOfAnotherVersion: a later arbiter's grant is refused by name.
func TestSignedGrantOfAnotherVersion(t *testing.T) {
	s := newScene(t)
	body := s.grant.marshal()
	body[1] = 2
	_, err := ParseGrant(append(body, s.arbiter.Sign(grantContext, body)...), s.arbiter.Public())
	if !errors.Is(err, ErrVersion) {
		t.Fatal(err)
	}
}

func TestPartLimits(t *testing.T) {
	whole := make([]byte, MaxRekey)
	for i := range whole {
		whole[i] = byte(i)
	}
	parts := splitParts(7, whole)
	if len(parts) != MaxParts || len(parts[0]) != MaxPart || len(parts[2]) != MaxPart {
		t.Fatalf("%d parts", len(parts))
	}
	var a assembly
	for i, raw := range parts {
		p, err := parsePart(raw)
		must(t, err)
		got, err := a.add(p)
		must(t, err)
		if (got != nil) != (i == len(parts)-1) || (got != nil && string(got) != string(whole)) {
			t.Fatalf("part %d: %d bytes", i, len(got))
		}
	}
	panics(t, "beyond", func() { splitParts(7, make([]byte, MaxRekey+1)) })
	for name, p := range map[string]part{
		"number 0":       {0, 0, 1, 5, make([]byte, 5)},
		"total 0":        {1, 0, 0, 0, nil},
		"beyond the cap": {1, 0, 4, MaxRekey + 1, make([]byte, partPayload)},
		"count":          {1, 0, 2, 5, make([]byte, 5)},
		"index":          {1, 1, 1, 5, make([]byte, 5)},
		"index wide":     {1, 255, 1, 5, make([]byte, 5)},
		"one too many":   {1, 1, 1, partPayload, nil}, // would keep the message from ever being whole
		"short":          {1, 0, 1, 5, make([]byte, 4)},
		"long":           {1, 0, 1, 5, make([]byte, 6)},
		"first not full": {1, 0, 2, partPayload + 5, make([]byte, 5)},
	} {
		if _, err := parsePart(p.marshal()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAssemblyIsBounded: however parts arrive, one message's worth is held.
func TestAssemblyIsBounded(t *testing.T) {
	var a assembly
	for n := range uint32(500) {
		p, err := parsePart(splitParts(n+1, make([]byte, MaxRekey))[n%MaxParts])
		must(t, err)
		if _, err := a.add(p); err != nil {
			t.Fatal(err)
		}
		if len(a.buf) > MaxRekey {
			t.Fatalf("%d bytes held", len(a.buf))
		}
	}
	_, err := a.add(part{500, 0, 2, partPayload + 1, make([]byte, partPayload)})
	if !errors.Is(err, ErrMismatch) || a.buf != nil {
		t.Fatalf("parts that contradict: %v", err)
	}
}

func panics(t *testing.T, name string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", name)
		}
	}()
	f()
}
