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
// returns what this host could carry as an agent, in Mbit/s, on all the CPUs
// that this process may use. It is a careful guess: it places sessions, and a
// measured load corrects it.
func Calibrate(budget time.Duration) (mbit uint32) {
	cpus := float64(runtime.NumCPU())
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

// sealRate gives bytes per second. Its key and nonces protect nothing.
func sealRate(budget time.Duration) float64 {
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
	for n := 1; ; n++ {
		binary.BigEndian.PutUint64(nonce[4:], uint64(n))
		aead.Seal(packet[:0], nonce[:], packet, nonce[:8])
		// The clock costs as much as a packet: look at it rarely.
		if n%64 == 0 {
			if elapsed := time.Since(begin); elapsed >= budget {
				return float64(n*size) / max(elapsed.Seconds(), 1e-9)
			}
		}
	}
}
