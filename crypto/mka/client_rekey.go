package mka

import (
	"bytes"
	"crypto/hmac"
	"fmt"
	"io"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// rekey is an offer the client has answered.
type rekey struct {
	number     uint32
	offer      []byte   // whole, to know it again
	parts      [][]byte // of the Accept
	mac        [hashSize]byte
	next       link
	spiA, spiC uint32
}

// follows checks that a prekey may replace the SA of spiA in the same slice.
func (t terms) follows(p Prekey, spiA uint32) error {
	if err := t.binds(p); err != nil {
		return err
	}
	if p.SPI == spiA || esp.Index(p.SPI) != esp.Index(spiA) {
		return fmt.Errorf("%w: %#08x after %#08x", ErrSPI, p.SPI, spiA)
	}
	return nil
}

// OfferPart takes one part of the agent's rekey offer. With the last part come
// the Accept's parts and the new keys, which may seal at once; the same offer
// again gets the same parts and nil keys, an incomplete one neither. nextSPI
// is the SPI_C to use, at least MinSPI and not the present one. Errors:
// ErrOrder for an offer before the Confirm, out of date or not built on the
// present agreement; those of ParsePrekey; ErrMismatch, ErrSPI,
// ErrEncapsulation.
func (c *Client) OfferPart(random io.Reader, body []byte, nextSPI uint32) (acceptParts [][]byte, keys *Keys, err error) {
	p, err := parsePart(body)
	if err != nil {
		return nil, nil, err
	}
	if !c.confirmed {
		return nil, nil, fmt.Errorf("%w: rekey before the confirm", ErrOrder)
	}
	if p.number < max(c.lowest(), c.assembly.number) {
		return nil, nil, fmt.Errorf("%w: rekey %d is over", ErrOrder, p.number)
	}
	offer, err := c.assembly.add(p)
	if err != nil || offer == nil {
		return nil, nil, err
	}
	if c.pending != nil && c.pending.number == p.number {
		if !bytes.Equal(offer, c.pending.offer) {
			return nil, nil, fmt.Errorf("%w: rekey %d offered twice", ErrMismatch, p.number)
		}
		return cloneParts(c.pending.parts), nil, nil
	}
	return c.answer(random, p.number, offer, nextSPI)
}

// lowest is the least number of an offer that may still be answered.
func (c *Client) lowest() uint32 {
	if c.pending != nil {
		return c.pending.number
	}
	return c.current.number + 1
}

func (c *Client) answer(random io.Reader, number uint32, offer []byte, nextSPI uint32) ([][]byte, *Keys, error) {
	base, sp, err := parseRekeyOffer(offer)
	if err != nil {
		return nil, nil, err
	}
	if base != c.current.number {
		return nil, nil, fmt.Errorf("%w: rekey %d follows %d, not %d", ErrOrder, number, base, c.current.number)
	}
	p, err := ParsePrekey(sp)
	if err != nil {
		return nil, nil, err
	}
	if err := c.grant.terms().follows(p, c.spiA); err != nil {
		return nil, nil, err
	}
	if nextSPI == c.spiC {
		return nil, nil, fmt.Errorf("%w: %#08x again", ErrSPI, nextSPI)
	}
	t := rekeyTranscript(c.hash, c.current, number, sp)
	message, out, err := c.accept(random, number, t, c.current.secret[:], p, nextSPI)
	if err != nil {
		return nil, nil, err
	}
	c.pending = &rekey{
		number: number, offer: offer, parts: splitParts(number, message),
		mac: out.mac, next: out.next, spiA: p.SPI, spiC: nextSPI,
	}
	clear(out.next.secret[:])
	return cloneParts(c.pending.parts), out.forClient(p.SPI, nextSPI), nil
}

// RekeyConfirm checks the agent's proof of the rekey answered last; the same
// again is no error. Errors: ErrMalformed, ErrVersion, ErrOrder, ErrConfirm.
func (c *Client) RekeyConfirm(body []byte) error {
	number, mac, err := parseRekeyConfirm(body)
	if err != nil {
		return err
	}
	if number != 0 && number == c.current.number {
		return proven(mac, c.currentMAC)
	}
	if c.pending == nil || number != c.pending.number {
		return fmt.Errorf("%w: confirm of rekey %d", ErrOrder, number)
	}
	if err := proven(mac, c.pending.mac); err != nil {
		return err
	}
	r := c.pending
	c.pending = nil
	c.current, c.currentMAC, c.spiA, c.spiC = r.next, r.mac, r.spiA, r.spiC
	clear(r.next.secret[:])
	return nil
}

func proven(mac []byte, want [hashSize]byte) error {
	if !hmac.Equal(mac, want[:]) {
		return ErrConfirm
	}
	return nil
}

func cloneParts(parts [][]byte) [][]byte {
	out := slices.Clone(parts)
	for i := range out {
		out[i] = bytes.Clone(out[i])
	}
	return out
}
