package mka

import (
	"crypto/hpke"
	"fmt"
	"io"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const (
	prekeyContext = "mka/1 prekey"
	signatureSize = 64
	// encapsulationKeySize is ek of MLKEM768-X25519: 1,184 + 32.
	encapsulationKeySize = 1216
	prekeyBodySize       = 2 + 32 + 32 + 16 + 4 + 4 + encapsulationKeySize
	// PrekeySize is the length of every SignedPrekey.
	PrekeySize = prekeyBodySize + signatureSize
	// secretSeedSize is the seed of an MLKEM768-X25519 key pair.
	secretSeedSize = 32
)

// Prekey is P0: an agent's single-use key for one slice or one rekey.
type Prekey struct {
	Agent         identity.NodeID
	AgentKey      identity.PublicKey
	Boot          identity.BootID
	SPI           uint32 // SPI_A of the SA that will come of it
	Encapsulation []byte // ek_A, 1,216 bytes
	Life          uint32 // seconds from when the agent made it; the agent keeps the time
}

// SignedPrekey is a marshalled Prekey and the agent's signature of it.
type SignedPrekey []byte

func (p Prekey) marshal() []byte {
	var e encoder
	e.u16(Version)
	e.raw(p.Agent[:])
	e.raw(p.AgentKey[:])
	e.raw(p.Boot[:])
	e.u32(p.SPI)
	e.u32(p.Life)
	e.raw(p.Encapsulation)
	return e.out
}

func parsePrekeyBody(b []byte) (Prekey, error) {
	d := decoder{rest: b}
	if err := d.version(); err != nil {
		return Prekey{}, err
	}
	var p Prekey
	d.into(p.Agent[:])
	d.into(p.AgentKey[:])
	d.into(p.Boot[:])
	p.SPI = d.u32()
	p.Life = d.u32()
	p.Encapsulation = append([]byte(nil), d.take(encapsulationKeySize)...)
	if err := d.end("prekey"); err != nil {
		return Prekey{}, err
	}
	if esp.Index(p.SPI) == 0 {
		return Prekey{}, fmt.Errorf("%w: prekey of no node: %#08x", ErrSPI, p.SPI)
	}
	if p.AgentKey.ID() != p.Agent {
		return Prekey{}, fmt.Errorf("%w: prekey's agent and key", ErrMismatch)
	}
	return p, nil
}

// ParsePrekey checks the signature and that Agent is the hash of AgentKey.
// Whether that agent is the right one is the grant's to say. Errors:
// ErrMalformed, ErrVersion, ErrSPI, ErrMismatch, ErrSignature.
func ParsePrekey(sp SignedPrekey) (Prekey, error) {
	p, err := ReadPrekey(sp)
	if err != nil {
		return Prekey{}, err
	}
	body, sig := sp[:prekeyBodySize], sp[prekeyBodySize:]
	if !p.AgentKey.Verify(prekeyContext, body, sig) {
		return Prekey{}, fmt.Errorf("%w: prekey", ErrSignature)
	}
	return p, nil
}

// ReadPrekey is ParsePrekey but for the signature: for an arbiter, that has the prekey
// from its agent's own stream and passes it on. Who agrees on keys by it checks all.
func ReadPrekey(sp SignedPrekey) (Prekey, error) {
	if len(sp) != PrekeySize {
		return Prekey{}, fmt.Errorf("%w: prekey of %d bytes", ErrMalformed, len(sp))
	}
	return parsePrekeyBody(sp[:prekeyBodySize])
}

// PrekeySecret is the agent's side of a prekey. It serves one Agent or one
// rekey, and at most one decapsulation.
type PrekeySecret struct {
	// seed is what the private key is made of. Zero once spent or expired.
	seed [secretSeedSize]byte
	// expanded is what it makes, 8 KB; nil: it is made once more when it is used, which
	// costs less than a pool of thousands of them.
	expanded hpke.PrivateKey
	alive    bool // neither spent nor expired
	signed   SignedPrekey
	public   Prekey // but for what is encapsulated to, which is in signed
	claimed  bool   // by an Agent or an offer
}

// NewPrekey makes a prekey of 32 bytes of random. boot is this process's, spi
// the SA's to be, life what the arbiter is told in seconds.
func NewPrekey(random io.Reader, agent identity.Key, boot identity.BootID, spi, life uint32) (*PrekeySecret, SignedPrekey, error) {
	if esp.Index(spi) == 0 {
		return nil, nil, fmt.Errorf("%w: prekey of no node: %#08x", ErrSPI, spi)
	}
	s := &PrekeySecret{alive: true}
	if _, err := io.ReadFull(random, s.seed[:]); err != nil {
		return nil, nil, fmt.Errorf("mka: random: %w", err)
	}
	private, err := s.private()
	if err != nil {
		return nil, nil, err
	}
	s.expanded = private
	p := Prekey{
		Agent: agent.ID(), AgentKey: agent.Public(), Boot: boot, SPI: spi, Life: life,
		Encapsulation: private.PublicKey().Bytes(),
	}
	body := p.marshal()
	s.signed = append(body, agent.Sign(prekeyContext, body)...)
	p.Encapsulation = nil
	s.public = p
	return s, s.signed, nil
}

// Compact leaves of the private key what it is made of: its owner does not expect it to be
// used soon. It reports whether there was more.
func (s *PrekeySecret) Compact() (was bool) {
	was = s.expanded != nil
	s.expanded = nil
	return was
}

// private is the key that the seed makes.
func (s *PrekeySecret) private() (hpke.PrivateKey, error) {
	if s.expanded != nil {
		return s.expanded, nil
	}
	private, err := hpke.MLKEM768X25519().NewPrivateKey(s.seed[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncapsulation, err)
	}
	return private, nil
}

// SPI is the SPI_A the prekey was made for.
func (s *PrekeySecret) SPI() uint32 { return s.public.SPI }

// Life is the prekey's life in seconds; its owner calls Expire at the end.
func (s *PrekeySecret) Life() uint32 { return s.public.Life }

// Expire ends the prekey's life: from now on it is refused with ErrPrekey. The
// package has no clock, so whoever holds the pool says when.
func (s *PrekeySecret) Expire() {
	clear(s.seed[:])
	s.expanded, s.alive = nil, false
}

// Usable reports whether the prekey still waits for a grant.
func (s *PrekeySecret) Usable() bool { return s.alive && !s.claimed }

// claim gives the prekey to one exchange, once.
func (s *PrekeySecret) claim() error {
	if !s.Usable() {
		return ErrPrekey
	}
	s.claimed = true
	return nil
}

// decapsulate burns the prekey, whether enc is valid or not.
func (s *PrekeySecret) decapsulate(enc, info []byte) ([]byte, error) {
	if !s.alive {
		return nil, ErrPrekey
	}
	private, err := s.private()
	s.Expire()
	if err != nil {
		return nil, err
	}
	r, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA384(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncapsulation, err)
	}
	return r.Export(kemLabel, secretSize)
}

// encapsulate is the client's half. The KEM's coins come from the process's
// generator: crypto/hpke takes no reader.
func encapsulate(ek, info []byte) (enc, secret []byte, err error) {
	public, err := hpke.MLKEM768X25519().NewPublicKey(ek)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrEncapsulation, err)
	}
	enc, s, err := hpke.NewSender(public, hpke.HKDFSHA384(), hpke.ExportOnly(), info)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrEncapsulation, err)
	}
	secret, err = s.Export(kemLabel, secretSize)
	return enc, secret, err
}
