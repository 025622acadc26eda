package mka

import (
	"fmt"
	"io"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// Share is r_A, the arbiter's random contribution to one slice. It has no
// marshaller of its own: a protocol that carries it takes its bytes by name.
type Share [32]byte

// Keys is an SA pair as its holder sees it: In opens what arrives at SPIIn,
// Out seals what leaves for SPIOut.
type Keys struct {
	In, Out       esp.Key
	SPIIn, SPIOut uint32
}

// forAgent and forClient are the two views of one outcome.
func (o outcome) forAgent(spiA, spiC uint32) *Keys {
	return &Keys{In: o.toAgent, Out: o.toClient, SPIIn: spiA, SPIOut: spiC}
}

func (o outcome) forClient(spiA, spiC uint32) *Keys {
	return &Keys{In: o.toClient, Out: o.toAgent, SPIIn: spiC, SPIOut: spiA}
}

// Wipe clears both keys, once the SA pair is made of them.
func (k Keys) Wipe() {
	k.In.Wipe()
	k.Out.Wipe()
}

// Format prints no secret whatever the verb.
func (Share) Format(f fmt.State, _ rune) { redact(f, "Share") }

// Format prints no secret whatever the verb.
func (PrekeySecret) Format(f fmt.State, _ rune) { redact(f, "PrekeySecret") }

// Format prints no secret whatever the verb.
func (Agent) Format(f fmt.State, _ rune) { redact(f, "Agent") }

// Format prints no secret whatever the verb.
func (Client) Format(f fmt.State, _ rune) { redact(f, "Client") }

// Format prints the SPIs and no key whatever the verb.
func (k Keys) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "mka.Keys(in %#08x, out %#08x, redacted)", k.SPIIn, k.SPIOut)
}

func redact(f fmt.State, name string) { _, _ = io.WriteString(f, "mka."+name+"(redacted)") }
