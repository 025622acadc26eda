package check

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// prekey is one that an agent's process made. It is good for one grant (I2).
type prekey struct {
	agent identity.NodeID
	boot  identity.BootID
	spi   uint32
}

// lookAtPrekey holds that each is granted once.
func (j *Judge) lookAtPrekey(at time.Duration, key slot, sl registry.Slice) {
	p := prekey{sl.Agent, sl.Boot, sl.SPI}
	if was, spent := j.spent[p]; spent && was != key {
		j.fail(at, "I2", "%v is granted prekey %x of %s, which %v was granted before", key, p.spi, j.name(p.agent), was)
	}
	j.spent[p] = key
}

// lookAtResumption holds, before it is applied, that a client which comes back keeps what it
// has: nothing is wrong, so every slice that is up is up under keys that both ends have.
func (j *Judge) lookAtResumption(at time.Duration, c registry.Command) {
	if c.ResumeKey == nil || !j.settled(at) {
		return
	}
	s, known := j.history.state.Sessions.Find(c.ResumeKey.Session)
	if !known {
		return
	}
	for _, sl := range s.Slices {
		for _, next := range c.ResumeKey.Slices {
			if next.Number == sl.Number && sl.State == registry.SliceUp {
				j.fail(at, "kept", "%v of %s was up, and is granted anew because its client came back", slot{s.ID, sl.Number, sl.Epoch}, s.Client)
			}
		}
	}
}
