package mka

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"unique"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Agent is an agent's side of one slice: it waits for the client's Accept and
// later offers rekeys.
type Agent struct {
	terms terms          // of the grant
	hash  [hashSize]byte // of the grant

	waiting *offer  // nil while nothing is offered
	first   *answer // to the slice's own Accept; nil: there was none, or it is settled
	latest  *answer // to the last rekey's Accept; nil likewise

	// Set by every agreement.
	up         bool
	current    link
	spiA, spiC uint32

	over     bool   // wiped
	offered  uint32 // number of the last offer
	assembly assembly
}

// NewAgent starts an agent's side from the grant and share that the arbiter
// sent and the agent's own prekey, which it claims. key is the agent's
// identity, floor the highest fence it has heard. The share is cleared, whatever
// comes of it (I1). Errors: those of ParseGrant;
// ErrFence; ErrMismatch for a grant of another agent, boot or SPI; ErrSuite;
// ErrPrekey.
func NewAgent(sg SignedGrant, arbiter identity.PublicKey, share *Share, secret *PrekeySecret,
	key identity.Key, floor Fence) (*Agent, error) {
	defer clear(share[:])
	c, err := CheckGrant(sg, arbiter)
	if err != nil {
		return nil, err
	}
	return c.NewAgent(share, secret, key, floor)
}

// CheckedGrant is a grant whose signature held: who has to read it before it can begin the
// agent's side checks that once.
type CheckedGrant struct {
	Grant Grant // must not be changed
	hash  [hashSize]byte
}

// CheckGrant is ParseGrant for NewAgent.
func CheckGrant(sg SignedGrant, arbiter identity.PublicKey) (CheckedGrant, error) {
	g, err := ParseGrant(sg, arbiter)
	if err != nil {
		return CheckedGrant{}, err
	}
	return CheckedGrant{g, hashGrant(sg)}, nil
}

// NewAgent is that of the package, but for what CheckGrant said.
func (c CheckedGrant) NewAgent(share *Share, secret *PrekeySecret, key identity.Key, floor Fence) (*Agent, error) {
	defer clear(share[:])
	g := c.Grant
	if g.Fence().Less(floor) {
		return nil, fmt.Errorf("%w: %v is below %v", ErrFence, g.Fence(), floor)
	}
	if g.AgentKey != key.Public() {
		return nil, fmt.Errorf("%w: grant of agent %s", ErrMismatch, g.Agent.Short())
	}
	if err := g.terms().names(secret.public); err != nil {
		return nil, err
	}
	if err := built(g.Suite); err != nil {
		return nil, err
	}
	a := &Agent{terms: g.terms(), hash: c.hash}
	var err error
	a.waiting, err = newOffer(0, secret, sliceTranscript(a.hash, secret.signed), share[:])
	if err != nil {
		return nil, err
	}
	return a, nil
}

// terms is what an agreement needs of its grant.
type terms struct {
	session identity.PublicKey     // of the client
	by      unique.Handle[process] // the agent's, of which all its slices are
	spi     uint32                 // SPI_A
	suite   esp.Suite
}

// process is an agent as long as it runs.
type process struct {
	agent identity.PublicKey
	boot  identity.BootID
}

func (g *Grant) terms() terms {
	return terms{g.SessionKey, unique.Make(process{g.AgentKey, g.Boot}), g.SPI, g.Suite}
}

// names checks that a prekey is the one the grant speaks of.
func (t terms) names(p Prekey) error {
	if p.SPI != t.spi {
		return fmt.Errorf("%w: prekey of SPI %#08x, grant of %#08x", ErrMismatch, p.SPI, t.spi)
	}
	return t.binds(p)
}

// binds checks that a prekey is of the granted agent and process.
func (t terms) binds(p Prekey) error {
	switch by := t.by.Value(); {
	case p.AgentKey != by.agent:
		return fmt.Errorf("%w: prekey of agent %s, grant of %s", ErrMismatch, p.Agent.Short(), by.agent.ID().Short())
	case p.Boot != by.boot:
		return fmt.Errorf("%w: prekey of boot %v, grant of %v", ErrMismatch, p.Boot, by.boot)
	}
	return nil
}

// Wipe ends the machine and clears its secrets; every later step is ErrOrder.
func (a *Agent) Wipe() {
	if a.waiting != nil {
		a.waiting.secret.Expire()
		a.waiting.early.forget()
	}
	a.Settle()
	clear(a.current.secret[:])
	*a = Agent{over: true}
}

// Settle forgets what recognises the Accepts so far: the client has used the keys of the
// last one, so it has its Confirm. Who sends one of them again hears that the prekey is
// spent.
func (a *Agent) Settle() {
	a.first.forget()
	a.latest.forget()
	a.first, a.latest = nil, nil
}

// Accept takes the client's datagram and returns the Confirm to send back and,
// the first time, the keys. The identical datagram again gets the same Confirm
// and nil keys, until Settle. Errors, in the order of the checks: ErrMalformed, ErrVersion,
// ErrSPI, ErrMismatch (another SPI_A), ErrKnock, ErrSignature, ErrPrekey,
// ErrEncapsulation. ErrOrder after Wipe.
func (a *Agent) Accept(datagram []byte) (confirm []byte, keys *Keys, err error) {
	if a.over {
		return nil, nil, errOver
	}
	m, err := parseAccept(datagram)
	if err != nil {
		return nil, nil, err
	}
	if m.spiA != a.terms.spi {
		return nil, nil, fmt.Errorf("%w: accept for SPI %#08x", ErrMismatch, m.spiA)
	}
	if a.up {
		confirm, err = a.first.replay(m)
		return confirm, nil, err
	}
	out, o, err := a.agree(m)
	if err != nil {
		return nil, nil, err
	}
	a.first = new(o.answered(m, out.mac))
	return a.first.confirm(), out.forAgent(m.spiA, m.spiC), nil
}

// agree ends the waiting offer with an Accept, or leaves the machine as it was.
func (a *Agent) agree(m accept) (outcome, *offer, error) {
	o := a.waiting
	out, err := o.accept(m, a.terms.session, a.terms.suite)
	if err != nil {
		return outcome{}, nil, err
	}
	a.waiting, a.up = nil, true
	a.current, a.spiA, a.spiC = out.next, m.spiA, m.spiC
	clear(out.next.secret[:])
	return out, o, nil
}

// answered wipes the offer, and keeps what recognises its Accept.
func (o *offer) answered(m accept, mac [hashSize]byte) answer {
	defer o.early.forget()
	return answer{o.number, m.spiC, [hashSize]byte(o.early.knock), mac, sha256.Sum256(m.raw)}
}

// Offer begins a rekey and returns control-message bodies of at most MaxPart
// bytes; send them again until AcceptPart gives keys. A new Offer replaces one
// still waiting, whose prekey is lost. The reader is not used: next holds all
// of the offer's randomness. Errors: ErrOrder before the first agreement,
// ErrMismatch, ErrSPI, ErrPrekey.
func (a *Agent) Offer(_ io.Reader, next *PrekeySecret, signed SignedPrekey) (parts [][]byte, err error) {
	if !a.up {
		return nil, fmt.Errorf("%w: rekey before the first agreement", ErrOrder)
	}
	if !bytes.Equal(signed, next.signed) {
		return nil, fmt.Errorf("%w: prekey and its secret", ErrMismatch)
	}
	if err := a.terms.follows(next.public, a.spiA); err != nil {
		return nil, err
	}
	number := a.offered + 1
	t := rekeyTranscript(a.hash, a.current, number, signed)
	o, err := newOffer(number, next, t, a.current.secret[:])
	if err != nil {
		return nil, err
	}
	if a.waiting != nil {
		a.waiting.secret.Expire()
		a.waiting.early.forget()
	}
	a.waiting, a.offered = o, number
	return splitParts(number, marshalRekeyOffer(a.current.number, signed)), nil
}

// AcceptPart takes one part of a rekey's answer. Keys come with the last part;
// the same answer again gets the same confirm and nil keys, an incomplete one
// neither. Errors: those of Accept; ErrOrder for a rekey that is not on offer.
func (a *Agent) AcceptPart(body []byte) (confirm []byte, keys *Keys, err error) {
	p, err := parsePart(body)
	if err != nil {
		return nil, nil, err
	}
	waits := a.waiting != nil && p.number == a.waiting.number
	repeats := a.latest != nil && p.number == a.latest.number
	if !a.up || (!waits && !repeats) {
		return nil, nil, fmt.Errorf("%w: rekey %d is not on offer", ErrOrder, p.number)
	}
	message, err := a.assembly.add(p)
	if err != nil || message == nil {
		return nil, nil, err
	}
	m, err := parseAccept(message)
	if err != nil {
		return nil, nil, err
	}
	if repeats {
		confirm, err = a.latest.replay(m)
		return confirm, nil, err
	}
	return a.acceptRekey(m)
}

func (a *Agent) acceptRekey(m accept) (confirm []byte, keys *Keys, err error) {
	if m.spiA != a.waiting.secret.SPI() {
		return nil, nil, fmt.Errorf("%w: accept for SPI %#08x", ErrMismatch, m.spiA)
	}
	if m.spiC == a.spiC {
		return nil, nil, fmt.Errorf("%w: client keeps %#08x", ErrSPI, m.spiC)
	}
	out, o, err := a.agree(m)
	if err != nil {
		return nil, nil, err
	}
	a.latest.forget()
	a.latest = new(o.answered(m, out.mac))
	return a.latest.confirm(), out.forAgent(m.spiA, m.spiC), nil
}
