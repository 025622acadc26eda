package load

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math"
	"os"
	"runtime"
	"time"
)

// Calibrate seals packets of 1,420 bytes by AES-256-GCM for about budget and
// returns what this host could carry as an agent, in Mbit/s, on the CPUs that it
// offers, in thousandths; 0 are all that this process may use. It is a careful
// guess: it places sessions, and a measured load corrects it.
func Calibrate(budget time.Duration, offered uint32) (mbit uint32) {
	cpus := float64(runtime.NumCPU())
	if offered > 0 {
		cpus = min(cpus, float64(offered)/1000)
	}
	if limit := quota(os.DirFS("/")); limit > 0 {
		cpus = min(cpus, limit)
	}
	return estimate(sealRate(min(budget, maxBudget)), cpus)
}

// estimate turns bytes per second of sealing on one CPU into Mbit/s of a host.
func estimate(rate, cpus float64) uint32 {
	mbit := rate * 8 / 1e6 * cpus / overhead
	return uint32(min(max(mbit, 1), math.MaxUint32))
}

// batch is how many packets are sealed between two looks at the clock, which
// costs as much as a packet. It lasts some 50 us: most batches are not
// interrupted, however busy the host is.
const batch = 64

// sealRate gives the bytes per second of the best batch: what interrupts the
// others is load, and that is measured elsewhere. So equal hosts come out alike.
// Its key and nonces protect nothing.
func sealRate(budget time.Duration) (best float64) {
	const size = 1420
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic("load: a key of 32 bytes was refused")
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("load: GCM of AES was refused")
	}
	packet := make([]byte, size, size+aead.Overhead())
	var nonce [12]byte
	begin := time.Now()
	for n, last := 1, begin; ; n++ {
		binary.BigEndian.PutUint64(nonce[4:], uint64(n))
		aead.Seal(packet[:0], nonce[:], packet, nonce[:8])
		if n%batch != 0 {
			continue
		}
		now := time.Now()
		best = max(best, batch*size/max(now.Sub(last).Seconds(), 1e-9))
		if now.Sub(begin) >= budget {
			return best
		}
		last = now
	}
}
