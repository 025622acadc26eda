package trust

import (
	"crypto/sha256"
	"sync"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
)

// MaxJudged is how many certificates are remembered (I10): of every node that a mesh may
// have, an old one and its renewal. When there are more all are forgotten.
const MaxJudged = 2 * identity.MaxIndex

// judged remembers certificates that were found right: a gateway shows its own with each
// client that it passes on, and form and signature are the same each time. Whether the dates
// hold and the key is listed is asked each time. Only what this mesh's CA signed gets in.
type judged struct {
	mu  sync.Mutex // protects all
	all map[[sha256.Size]byte]pki.Judged
}

func (j *judged) find(name [sha256.Size]byte) (known pki.Judged, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	known, ok = j.all[name]
	return known, ok
}

func (j *judged) remember(name [sha256.Size]byte, fresh pki.Judged) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.all == nil || len(j.all) >= int(MaxJudged) {
		j.all = make(map[[sha256.Size]byte]pki.Judged)
	}
	j.all[name] = fresh
}

// judge is pki.Judge by this node's CA.
func (t *Trust) judge(raw [][]byte) (pki.Judged, error) {
	if len(raw) == 0 || len(raw) > pki.MaxChain {
		return pki.Judge(raw, t.CA, t.Cluster) // which says why not
	}
	name := sha256.Sum256(raw[0])
	if known, ok := t.judged.find(name); ok {
		return known, nil
	}
	fresh, err := pki.Judge(raw, t.CA, t.Cluster)
	if err == nil {
		t.judged.remember(name, fresh)
	}
	return fresh, err
}

// Peer is whose certificate it is, whatever its dates and whoever is listed.
func (t *Trust) Peer(raw [][]byte) (pki.Peer, error) {
	known, err := t.judge(raw)
	return known.Peer, err
}

// peerNow is Peer of one whose dates hold.
func (t *Trust) peerNow(raw [][]byte) (pki.Peer, error) {
	known, err := t.judge(raw)
	if err != nil {
		return pki.Peer{}, err
	}
	return known.At(t.wall())
}
