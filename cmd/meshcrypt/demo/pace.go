package demo

import (
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"hash"
	"io"
	"math/rand/v2"
	"time"
)

// source is the sender's end of a transfer: random bytes at a pace, hashed as
// they leave. After a stall it catches up, so that the whole lasts as planned.
type source struct {
	ctx    context.Context
	random *rand.ChaCha8
	hash   hash.Hash
	total  uint64
	sent   uint64
	rate   uint64 // bit/s
	now    func() time.Duration
	wait   func(context.Context, time.Duration) error
}

func newSource(ctx context.Context, total, rate uint64, now func() time.Duration) *source {
	var seed [32]byte
	crand.Read(seed[:])
	return &source{ctx: ctx, random: rand.NewChaCha8(seed), hash: sha256.New(), total: total, rate: rate, now: now, wait: sleep}
}

// Read gives the next bytes when they are due.
func (s *source) Read(p []byte) (int, error) {
	left := s.total - s.sent
	if left == 0 {
		return 0, io.EOF
	}
	if early := due(s.sent, s.rate) - s.now(); early > 0 {
		if err := s.wait(s.ctx, early); err != nil {
			return 0, err
		}
	}
	n := min(uint64(len(p)), left, chunk(s.rate))
	s.random.Read(p[:n])
	s.hash.Write(p[:n])
	s.sent += n
	return int(n), nil
}

// end is the event of a sender that is done.
func (s *source) end(way string) event {
	return event{Kind: eventSent, Way: way, Bytes: s.sent, SHA256: hexSum(s.hash)}
}

// due is when byte n leaves at a rate.
func due(n, rate uint64) time.Duration {
	return time.Duration(float64(n) * 8 / float64(rate) * float64(time.Second))
}

// chunk is what leaves in about 5 ms, within bounds.
func chunk(rate uint64) uint64 { return min(max(rate/8/200, chunkMin), chunkMax) }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
