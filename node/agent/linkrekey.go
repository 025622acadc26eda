package agent

import (
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// linkControl is what the other node says inside the SA: a rekey's offer or confirm.
type linkControl struct {
	l    *nodeLink
	kind byte
	body []byte
}

func (e linkControl) apply(a *Agent) {
	switch e.kind {
	case probe.KindPrekeyPart:
		a.answerRekey(e.l, e.body)
	case probe.KindConfirm:
		a.finishRekey(e.l, e.body)
	}
}

// answerRekey answers the other node's next prekey inside the old SA.
func (a *Agent) answerRekey(l *nodeLink, body []byte) {
	parts, keys, err := l.machine.OfferPart(a.config.Random, body, a.freshSPI(a.config.Index))
	if err != nil {
		a.rejects.count("rekey-refused")
		return
	}
	if keys != nil {
		if l.next, err = a.linkPair(l, *keys); err != nil {
			a.config.Log.Error("SA with a node not rekeyed", "node", l.peer.Name, "error", err)
			return
		}
		a.changes.mesh = true
		a.publishIfDirty()
	}
	for _, part := range parts {
		_ = l.pair.SendControl(append([]byte{probe.KindAcceptPart}, part...)) // it is offered again
	}
}

// finishRekey starts to seal under the new keys, and says something under them: the
// other node switches when it has opened a packet.
func (a *Agent) finishRekey(l *nodeLink, body []byte) {
	if l.next == nil || l.machine.RekeyConfirm(body) != nil {
		return
	}
	l.older, l.olderAt = l.pair, a.config.Now()+RekeyLinger
	l.pair, l.next = l.next, nil
	a.changes.mesh = true
	a.publishIfDirty()
	_ = l.pair.SendControl([]byte{probe.KindUsed}) // traffic says the same
	a.config.Log.Debug("SA with a node rekeyed", "node", l.peer.Name)
}
