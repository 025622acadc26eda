package agent

import (
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// prekeyPool holds the secrets of prekeys that no grant has named yet. It is
// owned by the control loop.
type prekeyPool struct {
	secrets map[uint32]pooledPrekey // by SPI
	counts  map[uint64]int          // of them, by series
	endsAt  time.Duration           // none of them before
	order   spiOrder

	size    int           // how many the arbiter is to have; follows demand
	filling bool          // since the pool fell below half, until it is full
	fullAt  time.Duration // when it was last full
	series  uint64        // of the prekeys that the arbiter may grant
	taken   int           // of this series
	quiet   spell         // in which none was taken
	renewal time.Duration // when the next series is due
	coming  [][]byte      // prekeys of the next series, not said yet
	young   ring          // the latest
}

// ring is the latest prekeys, whose private keys are kept as they were made: a crowd takes
// each within seconds, and to make it once more costs as much as to make it.
type ring struct {
	secrets []*mka.PrekeySecret
	oldest  int // where the next one goes, once it is full
}

// add takes one more, in place of the oldest.
func (r *ring) add(s *mka.PrekeySecret) {
	if len(r.secrets) < MaxYoung {
		r.secrets = append(r.secrets, s)
		return
	}
	r.secrets[r.oldest].Compact()
	r.secrets[r.oldest] = s
	r.oldest = (r.oldest + 1) % MaxYoung
}

// empty makes all of them small.
func (r *ring) empty() {
	for _, s := range r.secrets {
		s.Compact()
	}
	*r = ring{}
}

// spell is a time in which a count stayed what it was.
type spell struct {
	count int
	since time.Duration
}

// lasts is how long it has lasted by now.
func (s *spell) lasts(count int, now time.Duration) time.Duration {
	if count != s.count {
		*s = spell{count, now}
	}
	return now - s.since
}

type pooledPrekey struct {
	secret *mka.PrekeySecret
	signed mka.SignedPrekey
	until  time.Duration
	series uint64
}

func newPrekeyPool(order spiOrder) *prekeyPool {
	return &prekeyPool{secrets: make(map[uint32]pooledPrekey), counts: make(map[uint64]int), order: order, size: MinPrekeys}
}

// offered counts the prekeys that the arbiter may grant.
func (p *prekeyPool) offered() int { return p.counts[p.series] }

func (p *prekeyPool) put(k pooledPrekey) {
	if len(p.secrets) == 0 {
		p.endsAt = k.until
	}
	p.endsAt = min(p.endsAt, k.until)
	p.secrets[k.secret.SPI()] = k
	p.counts[k.series]++
	p.young.add(k.secret)
}

// remove takes one out; none is no prekey.
func (p *prekeyPool) remove(spi uint32) pooledPrekey {
	k, pooled := p.secrets[spi]
	if !pooled {
		return k
	}
	delete(p.secrets, spi)
	if p.counts[k.series]--; p.counts[k.series] == 0 {
		delete(p.counts, k.series)
	}
	return k
}

// expire ends what outlived its time.
func (p *prekeyPool) expire(now time.Duration) {
	if now <= p.endsAt {
		return
	}
	p.endsAt = now + PrekeyLife // or before, says the loop
	for spi, k := range p.secrets {
		if now > k.until {
			p.remove(spi).secret.Expire()
		} else {
			p.endsAt = min(p.endsAt, k.until)
		}
	}
}

// grow doubles a pool that was drained below half soon after it was full.
func (p *prekeyPool) grow(now time.Duration) {
	if now-p.fullAt < PrekeyBusy {
		p.size = min(2*p.size, MaxPrekeys)
	}
}

// shrink halves a pool of which a whole series took less than a quarter.
func (p *prekeyPool) shrink() {
	if p.taken < p.size/4 {
		p.size = max(p.size/2, MinPrekeys)
	}
}

// rest gives back what a rush made the pool grow to, once nobody has come for a while: the
// arbiter has as much of each agent.
func (p *prekeyPool) rest(now time.Duration) {
	lasts := p.quiet.lasts(p.taken, now)
	if lasts >= PrekeyYoung {
		p.young.empty()
	}
	if lasts >= PrekeyRest && p.size > MinPrekeys {
		p.size, p.filling, p.renewal = MinPrekeys, false, now
	}
}

// begin makes the next series the one that the arbiter may grant. A grant
// under way may still name one of the last, so their secrets live a little.
func (p *prekeyPool) begin(now time.Duration) {
	for spi, k := range p.secrets {
		if k.series == p.series {
			k.until = min(k.until, now+PrekeyGrace)
			p.secrets[spi] = k
			p.endsAt = min(p.endsAt, k.until)
		}
	}
	p.series++
	p.taken, p.coming, p.renewal = 0, nil, now+PrekeyLife/2
	p.quiet = spell{since: now}
}

// take removes and returns the secret for an SPI; nil when there is none.
func (p *prekeyPool) take(spi uint32) *mka.PrekeySecret {
	pooled := p.remove(spi)
	if pooled.secret != nil && pooled.series == p.series {
		p.taken++
	}
	return pooled.secret
}

// drop ends prekeys that are granted to nobody, so that others are made in their place.
func (p *prekeyPool) drop(spis []uint32) {
	for _, spi := range spis {
		if secret := p.take(spi); secret != nil {
			secret.Expire()
		}
	}
}

// makePrekey makes one prekey of a series.
func (a *Agent) makePrekey(series uint64) (pooledPrekey, error) {
	spi := a.freshSPI(a.config.Index)
	secret, signed, err := mka.NewPrekey(a.config.Random, a.config.Key, a.config.Boot, spi, uint32(PrekeyLife.Seconds()))
	return pooledPrekey{secret, signed, a.config.Now() + PrekeyLife, series}, err
}

// poolPrekeys makes prekeys of a series, at most PrekeyBatch of them, for they
// cost the loop time.
func (a *Agent) poolPrekeys(count int, series uint64) [][]byte {
	count = min(count, PrekeyBatch, 2*MaxPrekeys-len(a.prekeys.secrets))
	keys := make([][]byte, 0, max(count, 0))
	for range count {
		k, err := a.makePrekey(series)
		if err != nil {
			a.config.Log.Error("no prekey", "error", err)
			break
		}
		a.prekeys.put(k)
		keys = append(keys, k.signed)
	}
	return keys
}

// renewPrekeys answers a new stream: what an older arbiter was given and did
// not grant is discarded, so that nothing is ever granted twice. How many an earlier rush
// needed is forgotten: to make thousands of them anew for each arbiter that is elected takes
// from all nodes what the election itself needs.
func (a *Agent) renewPrekeys() {
	p, now := a.prekeys, a.config.Now()
	for _, k := range p.secrets {
		k.secret.Expire()
	}
	clear(p.secrets)
	clear(p.counts)
	p.begin(now)
	p.filling, p.size = true, MinPrekeys
	a.fillPrekeys(now, true)
}

// refillPrekeys keeps the arbiter's pool above half, and fresh.
func (a *Agent) refillPrekeys(now time.Duration) {
	p := a.prekeys
	p.expire(now)
	if a.stream == nil || !a.stream.fenced {
		return
	}
	p.rest(now)
	if now >= p.renewal {
		a.prepareSeries(now)
		return
	}
	if !p.filling && p.offered() < p.size/2 {
		p.grow(now)
		p.filling = true
	}
	if p.filling {
		a.fillPrekeys(now, false)
	}
}

// fillPrekeys adds one batch to what the arbiter has.
func (a *Agent) fillPrekeys(now time.Duration, fresh bool) {
	p := a.prekeys
	if keys := a.poolPrekeys(p.size-p.offered(), p.series); fresh || len(keys) > 0 {
		a.say(&protocol.Node{Prekeys: &protocol.Prekeys{Fresh: fresh, Keys: keys}})
	}
	if p.offered() >= p.size {
		p.filling, p.fullAt = false, now
	}
}

// prepareSeries makes a fresh pool, batch by batch, and gives it to the
// arbiter whole, in place of the one it has, which would soon be dead.
func (a *Agent) prepareSeries(now time.Duration) {
	p := a.prekeys
	if len(p.coming) == 0 {
		p.shrink()
	}
	p.coming = append(p.coming, a.poolPrekeys(p.size-len(p.coming), p.series+1)...)
	if len(p.coming) < p.size {
		return
	}
	keys := p.coming
	p.begin(now)
	p.filling, p.fullAt = false, now
	a.say(&protocol.Node{Prekeys: &protocol.Prekeys{Fresh: true, Keys: keys}})
}
