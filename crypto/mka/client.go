package mka

import (
	"crypto/hmac"
	"fmt"
	"io"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Client is a client's side of one slice: it makes the Accept, checks the
// Confirm and answers rekeys.
type Client struct {
	grant   Grant
	hash    [hashSize]byte // of the grant
	session identity.Key

	first     [hashSize]byte // MAC that the slice's own Confirm must show
	firstSPI  uint32         // SPI_C of the slice's own agreement
	confirmed bool

	// Of the last confirmed agreement, and the MAC that confirmed it.
	current    link
	currentMAC [hashSize]byte
	spiA, spiC uint32

	over     bool   // wiped
	pending  *rekey // answered, not confirmed
	assembly assembly
}

// NewClient checks that grant, prekey and hello belong together and makes the
// Accept and the keys, which may seal at once. random gives the Accept's
// nonce; the KEM's coins are the process's own. hello is M1 as it was sent,
// spiC at least MinSPI. The share is cleared, whatever comes of it (I1). Errors:
// those of ParseGrant, ParsePrekey, ParseHello; ErrMismatch, ErrVersion, ErrSuite,
// ErrSPI, ErrEncapsulation.
func NewClient(random io.Reader, session identity.Key, sg SignedGrant, arbiter identity.PublicKey,
	sp SignedPrekey, share *Share, hello []byte, spiC uint32) (*Client, []byte, Keys, error) {
	defer clear(share[:])
	g, err := ParseGrant(sg, arbiter)
	if err != nil {
		return nil, nil, Keys{}, err
	}
	if err := g.answers(hello, session.Public()); err != nil {
		return nil, nil, Keys{}, err
	}
	p, err := ParsePrekey(sp)
	if err != nil {
		return nil, nil, Keys{}, err
	}
	if err := g.terms().names(p); err != nil {
		return nil, nil, Keys{}, err
	}
	c := &Client{grant: g, hash: hashGrant(sg), session: session, spiA: p.SPI, spiC: spiC, firstSPI: spiC}
	t := sliceTranscript(c.hash, sp)
	message, out, err := c.accept(random, 0, t, share[:], p, spiC)
	if err != nil {
		return nil, nil, Keys{}, err
	}
	c.first, c.current, c.currentMAC = out.mac, out.next, out.mac
	clear(out.next.secret[:])
	return c, message, *out.forClient(p.SPI, spiC), nil
}

// answers checks that the grant replies to this hello of this session, so that
// no offer was stripped on the way.
func (g Grant) answers(hello []byte, session identity.PublicKey) error {
	if g.HelloHash != HashHello(hello) {
		return fmt.Errorf("%w: grant answers another hello", ErrMismatch)
	}
	h, err := ParseHello(hello)
	if err != nil {
		return err
	}
	switch {
	case h.SessionKey != session || g.SessionKey != session:
		return fmt.Errorf("%w: grant of another session key", ErrMismatch)
	case !slices.Contains(h.Versions, g.Version):
		return fmt.Errorf("%w: %d was not offered", ErrVersion, g.Version)
	case !slices.Contains(h.Suites, g.Suite):
		return fmt.Errorf("%w: %v was not offered", ErrSuite, g.Suite)
	}
	return built(g.Suite)
}

// Grant is what the arbiter stated.
func (c *Client) Grant() Grant { return c.grant }

// accept makes an Accept for a prekey and what follows from it.
func (c *Client) accept(random io.Reader, number uint32, t transcript, share []byte,
	p Prekey, spiC uint32) ([]byte, outcome, error) {
	if spiC < MinSPI {
		return nil, outcome{}, fmt.Errorf("%w: %d", ErrSPI, spiC)
	}
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(random, nonce[:]); err != nil {
		return nil, outcome{}, fmt.Errorf("mka: random: %w", err)
	}
	context := t.context()
	e, err := newEarly(share, context)
	if err != nil {
		return nil, outcome{}, err
	}
	defer e.forget()
	enc, kem, err := encapsulate(p.Encapsulation, context[:])
	if err != nil {
		return nil, outcome{}, err
	}
	message := appendAccept(make([]byte, 0, AcceptSize), p.SPI, spiC, nonce, enc)
	signed := t.with(message)
	message = append(message, c.session.Sign(acceptLabel, signed[:])...)
	message = append(message, e.tag(message)...)
	out, err := e.finish(c.grant.Suite, kem, t.with(message), number)
	return message, out, err
}

// Wipe ends the machine and clears its secrets; every later step is ErrOrder.
func (c *Client) Wipe() {
	if c.pending != nil {
		clear(c.pending.next.secret[:])
	}
	clear(c.current.secret[:])
	*c = Client{grant: c.grant, over: true}
}

// Confirm checks the agent's proof of the slice's own agreement; the same
// again is no error. Errors: ErrMalformed, ErrVersion, ErrMismatch (another
// SPI_C), ErrConfirm, ErrOrder after Wipe.
func (c *Client) Confirm(datagram []byte) error {
	if c.over {
		return errOver
	}
	spiC, mac, err := parseConfirm(datagram)
	if err != nil {
		return err
	}
	if spiC != c.firstSPI {
		return fmt.Errorf("%w: confirm for SPI %#08x", ErrMismatch, spiC)
	}
	if !hmac.Equal(mac, c.first[:]) {
		return ErrConfirm
	}
	c.confirmed = true
	return nil
}
