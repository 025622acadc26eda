package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"sync"
	"time"
)

// The two ways of a transfer, as the client sees them.
const (
	wayUp   = "up"
	wayDown = "down"
)

// The kinds of event.
const (
	eventProgress = "progress" // bytes so far, by the receiver
	eventReceived = "received" // the whole, by the receiver
	eventSent     = "sent"     // the whole, by the sender
	eventFailed   = "failed"
)

// event is one line that a transfer's end tells the demo.
type event struct {
	Kind   string        `json:"event"`
	Way    string        `json:"way"`
	Bytes  uint64        `json:"bytes"`
	SHA256 string        `json:"sha256,omitempty"`
	Stall  time.Duration `json:"stall_ns,omitempty"`
	Reason string        `json:"reason,omitempty"`
}

// stall measures the longest pause between two moments of progress.
type stall struct {
	begun         bool
	last, longest time.Duration
}

// progress notes that bytes arrived at a time.
func (s *stall) progress(at time.Duration) {
	if s.begun {
		s.longest = max(s.longest, at-s.last)
	}
	s.begun, s.last = true, at
}

// events writes lines for the demo; both ways share it.
type events struct {
	mu sync.Mutex // protects w
	w  io.Writer
}

func (e *events) tell(one event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// A demo that reads no more is about to end this process.
	_ = json.NewEncoder(e.w).Encode(one)
}

// receiver counts, hashes and times what arrives one way.
type receiver struct {
	way      string
	events   *events
	now      func() time.Duration
	hash     hash.Hash
	bytes    uint64
	stall    stall
	reported time.Duration
}

func newReceiver(way string, e *events, now func() time.Duration) *receiver {
	return &receiver{way: way, events: e, now: now, hash: sha256.New()}
}

// Write takes what arrived; it never fails.
func (r *receiver) Write(p []byte) (int, error) {
	at := r.now()
	r.stall.progress(at)
	r.hash.Write(p)
	r.bytes += uint64(len(p))
	if at-r.reported >= reportEvery {
		r.reported = at
		r.events.tell(event{Kind: eventProgress, Way: r.way, Bytes: r.bytes, Stall: r.stall.longest})
	}
	return len(p), nil
}

// end tells the whole, or why it is not whole.
func (r *receiver) end(err error) {
	if err != nil {
		r.events.tell(event{Kind: eventFailed, Way: r.way, Bytes: r.bytes, Stall: r.stall.longest, Reason: err.Error()})
		return
	}
	r.stall.progress(r.now())
	r.events.tell(event{Kind: eventReceived, Way: r.way, Bytes: r.bytes, Stall: r.stall.longest, SHA256: hexSum(r.hash)})
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// stopwatch is a monotonic clock that starts now.
func stopwatch() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
