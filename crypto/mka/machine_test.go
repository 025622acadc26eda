package mka

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"io"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// agree checks one pair of key pairs from both ends.
func agree(t *testing.T, agent, client Keys) {
	t.Helper()
	if !sameKey(agent.In, client.Out) || !sameKey(agent.Out, client.In) {
		t.Fatal("the ends hold different keys")
	}
	if sameKey(agent.In, agent.Out) {
		t.Fatal("both directions have one key")
	}
	if agent.SPIIn != client.SPIOut || agent.SPIOut != client.SPIIn {
		t.Fatalf("SPIs %v and %v", agent, client)
	}
}

// TestNoKeyTwice is I2 as far as key agreement carries it: every agreement of
// a slice has keys and SPIs that none before it had.
func TestNoKeyTwice(t *testing.T) {
	s := newScene(t)
	a, c := s.established()
	agree(t, a, c)
	seen := []Keys{a}
	for i := range uint32(4) {
		a, c := s.rekey(2+i, 0x2000+i)
		agree(t, a, c)
		for _, old := range seen {
			for _, k := range []esp.Key{a.In, a.Out} {
				if sameKey(k, old.In) || sameKey(k, old.Out) {
					t.Fatal("a rekey gave an old key")
				}
			}
			if a.SPIIn == old.SPIIn || a.SPIOut == old.SPIOut {
				t.Fatal("a rekey kept an SPI")
			}
		}
		seen = append(seen, a)
	}
}

// TestKeysWork seals at one end and opens at the other, both ways, under every
// suite, and a rekey keeps the suite.
func TestKeysWork(t *testing.T) {
	for _, suite := range esp.Suites() {
		t.Run(suite.String(), func(t *testing.T) {
			s := newScene(t)
			offer := s.offer()
			offer.Suites = esp.Suites()
			s.hello = offer.Marshal()
			s.grant = s.plainGrant()
			s.grant.Suite = suite
			s.signed = SignGrant(s.arbiter, s.grant)
			a, c := s.established()
			checkKeysWork(t, suite, a, c)
			a, c = s.rekey(2, 0x2000)
			checkKeysWork(t, suite, a, c)
		})
	}
}

func checkKeysWork(t *testing.T, suite Suite, a, c Keys) {
	t.Helper()
	for _, k := range []esp.Key{a.In, a.Out, c.In, c.Out} {
		if k.Suite() != suite {
			t.Errorf("a key of %v", k.Suite())
		}
	}
	for name, pair := range map[string][2]Keys{"up": {c, a}, "down": {a, c}} {
		from, to := pair[0], pair[1]
		out, err := esp.NewOutbound(from.SPIOut, from.Out, esp.DefaultLimits(), nil)
		must(t, err)
		in, err := esp.NewInbound(to.SPIIn, to.In, esp.DefaultLimits())
		must(t, err)
		payload, _, _, err := in.Open(sealFirst(t, out, "over the mesh"))
		if err != nil || string(payload) != "over the mesh" {
			t.Errorf("%s: %q, %v", name, payload, err)
		}
	}
}

func sealFirst(t testing.TB, out *esp.Outbound, payload string) []byte {
	t.Helper()
	frame := make([]byte, len(payload)+esp.MaxOverhead)
	copy(frame[esp.PayloadOffset:], payload)
	counter, err := out.Reserve(1, len(payload))
	must(t, err)
	return out.Seal(frame, len(payload), 4, counter)
}

// TestSameShareAndPrekeyTwiceGivesOtherKeys: the client's own coins alone make
// keys new, even where arbiter and agent repeat themselves.
func TestSameShareAndPrekeyTwiceGivesOtherKeys(t *testing.T) {
	s := newScene(t).start()
	first := s.clientKeys
	must(t, s.newClient())
	if sameKey(first.Out, s.clientKeys.Out) {
		t.Fatal("two accepts gave one key")
	}
}

// TestRekeyNeedsThePreviousAgreement: a client that agreed on something else
// before cannot take part in the rekey, though it sees the offer.
func TestRekeyNeedsThePreviousAgreement(t *testing.T) {
	s := newScene(t)
	s.established()
	offer := s.offerParts(2)
	forged := *s.client
	forged.current.t[0] ^= 1
	wrongT := answerOf(t, s, &forged, offer)
	forged = *s.client
	forged.current.secret[0] ^= 1
	wrongSecret := answerOf(t, s, &forged, offer)
	for _, answer := range [][][]byte{wrongT, wrongSecret} {
		_, _, err := s.agent.AcceptPart(answer[0])
		must(t, err)
		if _, keys, err := s.agent.AcceptPart(answer[1]); !errors.Is(err, ErrKnock) || keys != nil {
			t.Fatalf("a rekey on another agreement: %v", err)
		}
	}
	answer, _ := s.answerParts(offer, 0x2000)
	s.acceptParts(answer)
}

func answerOf(t *testing.T, s *scene, c *Client, offer [][]byte) (answer [][]byte) {
	t.Helper()
	for _, p := range offer {
		var err error
		answer, _, err = c.OfferPart(s.random, p, 0x2000)
		must(t, err)
	}
	return answer
}

// TestRekeySecretReplacesShare: the share is gone from both machines once the
// slice's own agreement is made.
func TestRekeySecretReplacesShare(t *testing.T) {
	s := newScene(t).start()
	before := s.agent.waiting.early.prk
	_, _, err := s.agent.Accept(s.acceptData)
	must(t, err)
	if !bytes.Equal(before, make([]byte, len(before))) {
		t.Fatal("what the share gave is still there")
	}
	if s.agent.waiting != nil || s.secret.alive {
		t.Fatal("the spent prekey is still there")
	}
	if s.agent.current != s.client.current {
		t.Fatal("the ends would rekey from different secrets")
	}
}

// TestStrangerCostsOneHMAC: before the knock is right, neither the session key
// nor the prekey is touched. Both are taken away here, so that a touch would
// give another error or panic.
func TestStrangerCostsOneHMAC(t *testing.T) {
	s := newScene(t).start()
	s.agent.waiting.secret = nil
	s.agent.waiting.transcript = nil
	s.agent.terms.session = [32]byte{}
	bad := flipped(s.acceptData, AcceptSize-1)
	if _, _, err := s.agent.Accept(bad); !errors.Is(err, ErrKnock) {
		t.Fatal(err)
	}
	allocated := testing.AllocsPerRun(50, func() { _, _, _ = s.agent.Accept(bad) })
	if allocated > 20 {
		t.Errorf("a stranger's accept allocates %v times", allocated)
	}
}

// lowOrder makes an Accept that is right but for its X25519 half, which is the
// point of order 1.
func lowOrder(t *testing.T, s *scene) []byte {
	t.Helper()
	o := s.agent.waiting
	forged := append([]byte(nil), s.acceptData[:acceptSigAt]...)
	clear(forged[acceptSigAt-32:])
	digest := o.transcript.with(forged)
	forged = append(forged, s.session.Sign(acceptLabel, digest[:])...)
	return append(forged, o.early.tag(forged)...)
}

// TestBadEncapsulationBurnsThePrekey: the one who holds the session key and
// sends rubbish spends the prekey; it was theirs.
func TestBadEncapsulationBurnsThePrekey(t *testing.T) {
	s := newScene(t).start()
	if _, keys, err := s.agent.Accept(lowOrder(t, s)); !errors.Is(err, ErrEncapsulation) || keys != nil {
		t.Fatal(err)
	}
	if _, _, err := s.agent.Accept(s.acceptData); !errors.Is(err, ErrPrekey) {
		t.Fatal(err)
	}
}

// TestBadEncapsulationKeyFails: a prekey that its agent signed, but whose key
// is no ML-KEM key (a coefficient beyond the modulus).
func TestBadEncapsulationKeyFails(t *testing.T) {
	s := newScene(t)
	body := append([]byte(nil), s.prekey[:prekeyBodySize]...)
	copy(body[prekeyBodySize-encapsulationKeySize:], []byte{0xff, 0xff, 0xff})
	s.prekey = append(body, s.agents["a"].Sign(prekeyContext, body)...)
	if err := s.newClient(); !errors.Is(err, ErrEncapsulation) {
		t.Fatal(err)
	}
}

// TestForgedPrekeyOfAnotherKey: identity is the key, so a prekey whose agent is
// not the hash of its key is nobody's.
func TestForgedPrekeyOfAnotherKey(t *testing.T) {
	s := newScene(t)
	p, err := ParsePrekey(s.prekey)
	must(t, err)
	p.AgentKey = s.agents["b"].Public()
	body := p.marshal()
	_, err = ParsePrekey(append(body, s.agents["b"].Sign(prekeyContext, body)...))
	if !errors.Is(err, ErrMismatch) {
		t.Fatal(err)
	}
}

// TestContextsDiffer: a signature for one message is none for another.
func TestContextsDiffer(t *testing.T) {
	s := newScene(t)
	key := s.agents["a"]
	body := s.prekey[:prekeyBodySize]
	for _, context := range []string{grantContext, helloContext, acceptLabel} {
		if _, err := ParsePrekey(append(bytes.Clone(body), key.Sign(context, body)...)); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", context, err)
		}
	}
	s.prekey = append(bytes.Clone(body), key.Sign(grantContext, body)...)
	if err := s.newClient(); !errors.Is(err, ErrSignature) { // and the reason says so
		t.Errorf("a client of such a prekey: %v", err)
	}
}

// TestHelloThatIsNone: a grant may answer any bytes; a client's own hello must say what
// it offered.
func TestHelloThatIsNone(t *testing.T) {
	s := newScene(t)
	s.hello = s.hello[:len(s.hello)-1]
	s.grant.HelloHash = HashHello(s.hello)
	s.signed = SignGrant(s.arbiter, s.grant)
	if err := s.newClient(); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestRandomThatEndsIsAnError(t *testing.T) {
	s := newScene(t)
	if _, _, err := NewPrekey(bytes.NewReader(make([]byte, 31)), s.agents["a"], s.boot, esp.MakeSPI(7, 1), 1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	_, _, _, err := NewClient(bytes.NewReader(nil), s.session, s.signed, s.arbiter.Public(), s.prekey, s.given(), s.hello, s.spiC)
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if _, _, err := NewPrekey(s.random, s.agents["a"], s.boot, 4711, 1); !errors.Is(err, ErrSPI) {
		t.Error(err)
	}
}

// TestAnswersAreCopies: a caller that scribbles on what it was given does not
// change what a repeat gets.
func TestAnswersAreCopies(t *testing.T) {
	s := newScene(t).start()
	confirm, _, err := s.agent.Accept(s.acceptData)
	must(t, err)
	clear(confirm)
	again, _, err := s.agent.Accept(s.acceptData)
	must(t, err)
	must(t, s.client.Confirm(again))
	offer := s.offerParts(2)
	answer, _ := s.answerParts(offer, 0x2000)
	clear(answer[0])
	answer, _ = s.answerParts(offer, 0x2000)
	s.acceptParts(answer)
}

func TestFenceOrder(t *testing.T) {
	ordered := []Fence{{0, 0}, {0, 9}, {1, 0}, {1, 5}, {1, 6}, {2, 1}}
	for i, f := range ordered {
		for j, g := range ordered {
			if f.Less(g) != (i < j) {
				t.Errorf("%v below %v: %v", f, g, f.Less(g))
			}
		}
	}
}

// TestKEMIsTheNamedOne pins the KEM's number: X-Wing, 0x647a.
func TestKEMIsTheNamedOne(t *testing.T) {
	if id := hpke.MLKEM768X25519().ID(); id != 0x647a {
		t.Fatalf("KEM %#x", id)
	}
}

// TestCompactPrekey: a new prekey is not expanded again when it is used, one that was made
// small is, and both agree on the same.
func TestCompactPrekey(t *testing.T) {
	for _, small := range []bool{false, true} {
		s := newScene(t)
		kept := s.secret.expanded
		if s.secret.Compact() != (kept != nil) || s.secret.Compact() {
			t.Error("it has a private key after that")
		}
		if !small {
			s.secret.expanded = kept
		}
		if used, err := s.secret.private(); err != nil || kept == nil || (used == kept) == small || !bytes.Equal(used.PublicKey().Bytes(), kept.PublicKey().Bytes()) {
			t.Errorf("small %t: another key, %v", small, err)
		}
		s.secret.Expire()
		if s.secret.expanded != nil {
			t.Error("it outlives its end")
		}
	}
}
