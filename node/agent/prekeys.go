package agent

import (
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// prekeyPool holds the secrets of prekeys that no grant has named yet. It is
// owned by the control loop.
type prekeyPool struct {
	secrets map[uint32]pooledPrekey // by SPI
	next    uint32                  // local part of the next SPI
	renewal time.Duration           // when the pool is to be offered anew
	series  uint64                  // of the prekeys that the arbiter may grant
}

type pooledPrekey struct {
	secret *mka.PrekeySecret
	signed mka.SignedPrekey
	until  time.Duration
	series uint64
}

// offered counts the prekeys that the arbiter may grant.
func (p *prekeyPool) offered() (count int) {
	for _, k := range p.secrets {
		if k.series == p.series {
			count++
		}
	}
	return count
}

func newPrekeyPool() *prekeyPool {
	return &prekeyPool{secrets: make(map[uint32]pooledPrekey), next: 1}
}

const localSPIs = 1 << 20

// freshSPI returns an SPI of this node that neither a prekey nor a slice uses.
func (a *Agent) freshSPI(index identity.Index) uint32 {
	for {
		spi := esp.MakeSPI(index, a.prekeys.next)
		a.prekeys.next = (a.prekeys.next + 1) % localSPIs
		if _, pooled := a.prekeys.secrets[spi]; !pooled && !a.slices.usesSPI(spi) {
			return spi
		}
	}
}

// makePrekey makes one prekey; only its secret half is kept when pooled.
func (a *Agent) makePrekey() (pooledPrekey, uint32, error) {
	spi := a.freshSPI(a.config.Index)
	secret, signed, err := mka.NewPrekey(a.config.Random, a.config.Key, a.config.Boot, spi, uint32(PrekeyLife.Seconds()))
	if err != nil {
		return pooledPrekey{}, 0, err
	}
	return pooledPrekey{secret, signed, a.config.Now() + PrekeyLife, a.prekeys.series}, spi, nil
}

// renewPrekeys answers a new stream: what an older arbiter was given and did
// not grant is discarded, so that nothing is ever granted twice.
func (a *Agent) renewPrekeys() {
	for _, p := range a.prekeys.secrets {
		p.secret.Expire()
	}
	clear(a.prekeys.secrets)
	a.offerSeries(a.config.Now())
}

// offerSeries gives the arbiter a fresh pool in place of the one it has: what
// it was given before would soon be dead. A grant under way may still name one
// of those, so their secrets live out their own time.
func (a *Agent) offerSeries(now time.Duration) {
	a.prekeys.series++
	a.prekeys.renewal = now + PrekeyLife/2
	a.offerPrekeys(StartPrekeys, true)
}

// refillPrekeys keeps the arbiter's pool above half, and fresh.
func (a *Agent) refillPrekeys(now time.Duration) {
	for spi, p := range a.prekeys.secrets {
		if now > p.until {
			p.secret.Expire()
			delete(a.prekeys.secrets, spi)
		}
	}
	if a.stream == nil || !a.stream.fenced {
		return
	}
	if now >= a.prekeys.renewal {
		a.offerSeries(now)
	} else if offered := a.prekeys.offered(); offered < MinPrekeys {
		a.offerPrekeys(StartPrekeys-offered, false)
	}
}

func (a *Agent) offerPrekeys(count int, fresh bool) {
	count = min(count, MaxPrekeys-len(a.prekeys.secrets))
	keys := make([][]byte, 0, count)
	for range count {
		p, spi, err := a.makePrekey()
		if err != nil {
			a.config.Log.Error("no prekey", "error", err)
			break
		}
		a.prekeys.secrets[spi] = p
		keys = append(keys, p.signed)
	}
	a.say(&protocol.Node{Prekeys: &protocol.Prekeys{Fresh: fresh, Keys: keys}})
}

// take removes and returns the secret for an SPI; nil when there is none.
func (p *prekeyPool) take(spi uint32) *mka.PrekeySecret {
	pooled := p.secrets[spi]
	delete(p.secrets, spi)
	return pooled.secret
}
