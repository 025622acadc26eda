package agent

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// control receives an authenticated control message of a client, on a worker
// of the packet engine. Probes are answered at once; the rest goes to the loop. mark
// is the slice's.
func (a *Agent) control(key sliceKey, mark *atomic.Uint64, pair *dataplane.Pair, payload []byte) {
	if len(payload) == 0 {
		return
	}
	switch payload[0] {
	case probe.KindProbe:
		if reply, ok := probe.Answer(payload, a.probes.answerVerdict(), a.probes.ownLoad()); ok {
			mark.Store(0)
			_ = pair.SendControl(reply) // a lost reply looks like a lost probe
		}
	case probe.KindParked:
		a.answerParked(mark, pair, payload)
	case probe.KindPadded:
		a.answerPadded(pair, payload)
	case probe.KindAcceptPart:
		a.speaks(sender{session: key.session}, func() event { return acceptPart{key, bytes.Clone(payload[1:])} })
	case probe.KindVerdict:
		a.speaks(sender{session: key.session}, func() event { return clientVerdict{key, bytes.Clone(payload[1:])} })
	}
}

// answerPadded lets a client's word on sizes count and sends as much back as
// came, so that both directions are measured.
func (a *Agent) answerPadded(pair *dataplane.Pair, payload []byte) {
	p, ok := probe.ParsePadded(payload, probe.KindPadded)
	if !ok {
		return
	}
	pair.SetSizes(int(p.MTU), int(p.Limit))
	p.MTU, p.Limit = uint16(a.handOnMost.Load()), 0
	_ = pair.SendPadded(p.Marshal(probe.KindPaddedReply)) // a lost reply looks like a lost probe
}

// superviseRekey offers the next prekey when the keys grow old. The offer is
// repeated until the client's new SA is in use, for its answer fetches a confirm
// that was lost; the hard limits of the SA, and KeysEnd, end what nobody renewed.
func (a *Agent) superviseRekey(s *slice, now time.Duration) {
	old := now-s.since > a.rekeyDue(s.key)
	forged := s.pair.Forged() >= a.forgedMost
	if forged {
		a.alarm(s)
	}
	if s.next == nil && !old && !forged && !s.pair.Out.Soft() && !s.pair.In.Soft() {
		return
	}
	if s.rekeyed != 0 && now-s.rekeyed < RekeyRetry {
		return
	}
	a.offerRekey(s, now)
}

// alarm tells the arbiter, once for each key, that very many packets failed under it.
func (a *Agent) alarm(s *slice) {
	if s.alarmed == s.pair {
		return
	}
	s.alarmed = s.pair
	path, _ := s.pair.Path()
	a.flag(violation{forgedUnderOneKey, path.Remote.Addr(), s.pair.Forged()})
	a.config.Log.Warn("very many forged packets; keys are renewed", "session", s.key.session, "slice", s.key.number)
}

// forgedUnderOneKey is the reason of that violation.
const forgedUnderOneKey = "forged-under-one-key"

// rekeyDue spreads the rekeys of many slices over a tenth of the interval.
func (a *Agent) rekeyDue(key sliceKey) time.Duration {
	spread := a.rekeyAfter / 10
	return a.rekeyAfter - spread*time.Duration(key.session[0])/255
}

// offerRekey makes the offer once and repeats the same parts until they are
// answered: a new offer would void an answer under way.
func (a *Agent) offerRekey(s *slice, now time.Duration) {
	if s.offer == nil {
		p, err := a.makePrekey(0)
		if err == nil {
			p.secret.Compact() // the client may be away
			s.offer, err = s.machine.Offer(a.config.Random, p.secret, p.signed)
		}
		if err != nil {
			a.config.Log.Error("rekey not offered", "session", s.key.session, "error", err)
			return
		}
	}
	s.rekeyed = now
	for _, part := range s.offer {
		_ = s.pair.SendControl(append([]byte{probe.KindPrekeyPart}, part...)) // repeated by a later tick
	}
}

type acceptPart struct {
	key  sliceKey
	body []byte
}

// apply feeds the client's answer to a rekey offer.
func (e acceptPart) apply(a *Agent) {
	s := a.slices.byKey[e.key]
	if s == nil || s.pair == nil {
		return
	}
	confirm, keys, err := s.machine.AcceptPart(e.body)
	if err != nil {
		a.rejects.count("rekey-refused")
		a.config.Log.Debug("rekey refused", "session", s.key.session, "error", err)
		return
	}
	if keys != nil {
		if s.next, err = a.newPair(s, *keys); err != nil {
			a.config.Log.Error("slice not rekeyed", "error", err)
			return
		}
		s.next.FollowFrom(s.pair)
		a.slices.bySPI[s.next.In.SPI()] = s
		a.touched(s)
		a.publishIfDirty()
	}
	if confirm != nil {
		_ = s.pair.SendControl(append([]byte{probe.KindConfirm}, confirm...)) // the client asks again
	}
}

// switchKeys starts to seal under the new keys once the client has used them.
func (a *Agent) switchKeys(s *slice, now time.Duration) {
	a.release(s)
	s.older, s.pair, s.next = s.pair, s.next, nil
	s.settle()
	s.olderAt, s.since, s.rekeyed, s.offer = now+RekeyLinger, time.Duration(s.pair.Ends)-KeysEnd, 0, nil
	a.touched(s)
	a.config.Log.Debug("slice rekeyed", "session", s.key.session, "slice", s.key.number)
}
