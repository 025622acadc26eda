package mka

import (
	"fmt"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const grantContext = "mka/1 grant"

// Fence orders arbiters: a higher incarnation, then a higher term.
type Fence struct{ Incarnation, Term uint64 }

// Less reports whether f is older than g.
func (f Fence) Less(g Fence) bool {
	if f.Incarnation != g.Incarnation {
		return f.Incarnation < g.Incarnation
	}
	return f.Term < g.Term
}

// Grant is the arbiter's statement of one slice at one epoch: who, for whom,
// with which suite and addresses, committed where. Client and agent hold the
// same bytes, and their hash is in every key.
type Grant struct {
	Version      uint16
	Cluster      identity.ClusterID
	Incarnation  uint64
	Term, Index  uint64 // of the log entry that committed it (I6)
	Session      [16]byte
	Slice        uint8
	Epoch        uint32
	Class        uint8
	Suite        esp.Suite
	Weight       uint32
	Mode         string
	Agent        identity.NodeID
	AgentKey     identity.PublicKey
	Boot         identity.BootID
	SPI          uint32 // SPI_A, of the prekey granted with it
	Gateways     []netip.AddrPort
	SessionKey   identity.PublicKey // pk_S
	IdentityHash [32]byte
	Leases       []netip.Addr // inner addresses
	Policy       uint64
	HelloHash    [32]byte // HashHello of M1
}

// SignedGrant is a marshalled Grant and the arbiter's signature of it.
type SignedGrant []byte

// Fence is where the grant stands among arbiters.
func (g Grant) Fence() Fence { return Fence{g.Incarnation, g.Term} }

// Validate reports why a Grant cannot be sent: ErrVersion, ErrMalformed,
// ErrSPI or ErrMismatch.
func (g Grant) Validate() error {
	switch {
	case g.Version != Version:
		return fmt.Errorf("%w: %d", ErrVersion, g.Version)
	case len(g.Mode) > MaxMode || !plainText(g.Mode):
		return fmt.Errorf("%w: grant: mode of at most %d printable bytes", ErrMalformed, MaxMode)
	case len(g.Gateways) > MaxGateways || len(g.Leases) > MaxLeases:
		return fmt.Errorf("%w: grant: at most %d gateways and %d leases", ErrMalformed, MaxGateways, MaxLeases)
	case esp.Index(g.SPI) == 0:
		return fmt.Errorf("%w: grant to no node: %#08x", ErrSPI, g.SPI)
	case g.AgentKey.ID() != g.Agent:
		return fmt.Errorf("%w: grant's agent and key", ErrMismatch)
	}
	for _, a := range g.Gateways {
		if !plainAddr(a.Addr()) {
			return fmt.Errorf("%w: grant: gateway %v", ErrMalformed, a)
		}
	}
	for _, a := range g.Leases {
		if !plainAddr(a) {
			return fmt.Errorf("%w: grant: lease %v", ErrMalformed, a)
		}
	}
	return nil
}

func (g Grant) marshal() []byte {
	var e encoder
	e.u16(g.Version)
	e.raw(g.Cluster[:])
	e.u64(g.Incarnation)
	e.u64(g.Term)
	e.u64(g.Index)
	e.raw(g.Session[:])
	e.u8(g.Slice)
	e.u32(g.Epoch)
	e.u8(g.Class)
	e.u16(uint16(g.Suite))
	e.u32(g.Weight)
	e.text(g.Mode)
	e.raw(g.Agent[:])
	e.raw(g.AgentKey[:])
	e.raw(g.Boot[:])
	e.u32(g.SPI)
	e.u8(uint8(len(g.Gateways)))
	for _, a := range g.Gateways {
		e.addr(a.Addr())
		e.u16(a.Port())
	}
	e.raw(g.SessionKey[:])
	e.raw(g.IdentityHash[:])
	e.u8(uint8(len(g.Leases)))
	for _, a := range g.Leases {
		e.addr(a)
	}
	e.u64(g.Policy)
	e.raw(g.HelloHash[:])
	return e.out
}

func parseGrantBody(b []byte) (Grant, error) {
	d := decoder{rest: b}
	if err := d.version(); err != nil {
		return Grant{}, err
	}
	g := Grant{Version: Version}
	d.into(g.Cluster[:])
	g.Incarnation, g.Term, g.Index = d.u64(), d.u64(), d.u64()
	d.into(g.Session[:])
	g.Slice, g.Epoch, g.Class = d.u8(), d.u32(), d.u8()
	g.Suite, g.Weight, g.Mode = esp.Suite(d.u16()), d.u32(), d.text()
	d.into(g.Agent[:])
	d.into(g.AgentKey[:])
	d.into(g.Boot[:])
	g.SPI = d.u32()
	for range d.count(MaxGateways) {
		a := d.addr()
		g.Gateways = append(g.Gateways, netip.AddrPortFrom(a, d.u16()))
	}
	d.into(g.SessionKey[:])
	d.into(g.IdentityHash[:])
	for range d.count(MaxLeases) {
		g.Leases = append(g.Leases, d.addr())
	}
	g.Policy = d.u64()
	d.into(g.HelloHash[:])
	if err := d.end("grant"); err != nil {
		return Grant{}, err
	}
	if err := g.Validate(); err != nil {
		return Grant{}, err
	}
	return g, nil
}

// SignGrant encodes and signs a grant. It panics if Validate would fail.
func SignGrant(arbiter identity.Key, g Grant) SignedGrant {
	if err := g.Validate(); err != nil {
		panic(err.Error())
	}
	body := g.marshal()
	return append(body, arbiter.Sign(grantContext, body)...)
}

// ParseGrant checks the signature, then decodes. Whether arbiter is an arbiter
// is its certificate's to say. Errors: ErrMalformed, ErrSignature, ErrVersion,
// ErrSPI, ErrMismatch.
func ParseGrant(sg SignedGrant, arbiter identity.PublicKey) (Grant, error) {
	if len(sg) < signatureSize {
		return Grant{}, fmt.Errorf("%w: grant of %d bytes", ErrMalformed, len(sg))
	}
	body, sig := sg.split()
	if !arbiter.Verify(grantContext, body, sig) {
		return Grant{}, fmt.Errorf("%w: grant", ErrSignature)
	}
	return parseGrantBody(body)
}

// split parts a grant of at least signatureSize bytes.
func (sg SignedGrant) split() (body, sig []byte) {
	n := len(sg) - signatureSize
	return sg[:n], sg[n:]
}
