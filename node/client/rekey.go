package client

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
)

// takeRekeyOffer answers the agent's next prekey inside the old SA.
func (c *Client) takeRekeyOffer(s *slice, body []byte) {
	parts, keys, err := s.machine.OfferPart(c.config.Random, body, c.freshSPI())
	if err != nil {
		c.config.Log.Debug("rekey offer not usable", "slice", s.key.number, "error", err)
		return
	}
	if keys != nil {
		if s.next, err = c.newPair(s, *keys); err != nil {
			c.config.Log.Error("slice not rekeyed", "error", err)
			return
		}
		c.dirty = true
		c.publishIfDirty()
	}
	for _, part := range parts {
		_ = s.pair.SendControl(append([]byte{probe.KindAcceptPart}, part...)) // the agent offers again
	}
}

// finishRekey starts to seal under the new keys.
func (c *Client) finishRekey(s *slice, body []byte, now time.Duration) {
	if s.next == nil || s.machine.RekeyConfirm(body) != nil {
		return
	}
	s.older, s.olderAt = s.pair, now+RetireAfter
	s.pair, s.next = s.next, nil
	s.sizing.retell()
	c.dirty = true
	c.publishIfDirty()
	c.ask(s, now) // the agent switches when it has opened a packet of the new SA
}
