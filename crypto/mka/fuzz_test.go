package mka

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Each parser: no panic (I11), and what it takes has exactly one encoding.

func FuzzHello(f *testing.F) {
	s := newScene(f)
	f.Add(s.hello)
	f.Add(s.hello[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil && !bytes.Equal(h.Marshal(), b) {
			t.Fatalf("%x becomes %x", b, h.Marshal())
		}
	})
}

func FuzzPrekey(f *testing.F) {
	s := newScene(f)
	f.Add([]byte(s.prekey))
	f.Add([]byte(s.prekey[:prekeyBodySize]))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParsePrekey(b); err != nil && len(b) == PrekeySize {
			b = b[:prekeyBodySize] // look behind the signature
		}
		if p, err := parsePrekeyBody(b); err == nil && !bytes.Equal(p.marshal(), b) {
			t.Fatalf("%x becomes %x", b, p.marshal())
		}
	})
}

func FuzzGrant(f *testing.F) {
	s := newScene(f)
	body, _ := s.signed.split()
	f.Add([]byte(s.signed))
	f.Add([]byte(body))
	f.Add(body[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := ParseGrant(b, s.arbiter.Public()); err == nil && !bytes.Equal(SignGrant(s.arbiter, g), b) {
			t.Fatalf("%x is not what signing gives", b)
		}
		if g, err := parseGrantBody(b); err == nil && !bytes.Equal(g.marshal(), b) {
			t.Fatalf("%x becomes %x", b, g.marshal())
		}
	})
}

// FuzzAccept takes its true accept from the golden file: the KEM's coins are
// not the scene's, and every process of a fuzz run must know the same one.
func FuzzAccept(f *testing.F) {
	s := newScene(f)
	must(f, s.newAgent())
	accept := readGolden(f)["accept"]
	f.Add(accept)
	f.Add(accept[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseAccept(b)
		if err == nil {
			again := appendAccept(nil, m.spiA, m.spiC, [nonceSize]byte(b[acceptNonceAt:]), m.enc)
			if again = append(append(again, m.sig...), m.knock...); !bytes.Equal(again, b) {
				t.Fatalf("%x becomes %x", b, again)
			}
		}
		if _, keys, err := s.agent.Accept(b); (keys != nil || err == nil) && !bytes.Equal(b, accept) {
			t.Fatalf("%x agreed", b)
		}
	})
}

func FuzzConfirm(f *testing.F) {
	s := newScene(f).start()
	confirm, _, err := s.agent.Accept(s.acceptData)
	must(f, err)
	f.Add(confirm)
	f.Add(marshalRekeyConfirm(1, [hashSize]byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if spi, mac, err := parseConfirm(b); err == nil && !bytes.Equal(marshalConfirm(spi, [hashSize]byte(mac)), b) {
			t.Fatalf("confirm %x", b)
		}
		if n, mac, err := parseRekeyConfirm(b); err == nil && !bytes.Equal(marshalRekeyConfirm(n, [hashSize]byte(mac)), b) {
			t.Fatalf("rekey confirm %x", b)
		}
		if err := s.client.Confirm(b); err == nil && !bytes.Equal(b, confirm) {
			t.Fatalf("%x confirmed", b)
		}
	})
}

func FuzzPart(f *testing.F) {
	for _, p := range splitParts(3, make([]byte, rekeyOfferSize)) {
		f.Add(p)
	}
	f.Add(splitParts(1, []byte{1})[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parsePart(b); err == nil {
			if !bytes.Equal(p.marshal(), b) {
				t.Fatalf("%x becomes %x", b, p.marshal())
			}
			if len(b) > MaxPart {
				t.Fatalf("part of %d bytes", len(b))
			}
		}
		base, sp, err := parseRekeyOffer(b)
		if err == nil && !bytes.Equal(marshalRekeyOffer(base, sp), b) {
			t.Fatalf("offer %x", b)
		}
	})
}

// FuzzMachines gives both machines whatever order of steps and rubbish comes.
// They must not panic, and whenever both count the same rekey as current, they
// must hold the same link.
func FuzzMachines(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x04\x05\x06\x03\x04\x05\x06"), uint64(1))
	f.Add([]byte("\x02\x02\x03\x03\x04\x05\x00\x07\x08\x06"), uint64(2))
	f.Fuzz(func(t *testing.T, steps []byte, seed uint64) {
		if len(steps) > 24 {
			return
		}
		m := newMuddle(t, seed)
		for _, step := range steps {
			m.step(step)
			a, c := m.s.agent, m.s.client
			if a.up && c.confirmed && a.current.number == c.current.number && a.current != c.current {
				t.Fatal("the ends differ in what they agreed")
			}
		}
	})
}

// muddle runs steps out of order over the messages made so far.
type muddle struct {
	s      *scene
	pick   *rand.Rand
	local  uint32
	bodies [][]byte
}

func newMuddle(t *testing.T, seed uint64) *muddle {
	s := newScene(t).start()
	return &muddle{s: s, pick: rand.New(rand.NewPCG(seed, 0)), local: 1, bodies: [][]byte{s.acceptData}}
}

func (m *muddle) keep(bodies ...[]byte) { m.bodies = append(m.bodies, bodies...) }

func (m *muddle) step(step byte) {
	body := m.bodies[m.pick.IntN(len(m.bodies))]
	switch step % 9 {
	case 0:
		m.keepOne(m.s.agent.Accept(m.s.acceptData))
	case 1:
		_ = m.s.client.Confirm(m.bodies[len(m.bodies)-1])
	case 2:
		m.local++
		m.s.newPrekey(m.local)
		parts, _ := m.s.agent.Offer(m.s.random, m.s.secret, m.s.prekey)
		m.keep(parts...)
	case 3, 4:
		parts, _, _ := m.s.client.OfferPart(m.s.random, body, 0x1000+m.pick.Uint32N(8))
		m.keep(parts...)
	case 5:
		m.keepOne(m.s.agent.AcceptPart(body))
	case 6:
		_ = m.s.client.RekeyConfirm(body)
	case 7:
		_ = m.s.client.Confirm(body)
	case 8:
		m.keep(flipped(body, m.pick.IntN(len(body))))
	}
}

func (m *muddle) keepOne(confirm []byte, _ *Keys, _ error) {
	if confirm != nil {
		m.keep(confirm)
	}
}
