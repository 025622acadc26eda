package client

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/meshcrypt/meshcrypt/node/port"
)

// haste is why a control connection is to be made anew.
type haste uint8

const (
	again     haste = iota // through the same gateway
	elsewhere              // through another one
	moved                  // this host's own network is another: no arbiter is the worse for it
)

// backoff is how long to wait before the next control connection: twice as long each
// time, until one has lasted. That one was welcomed does not count: where an arbiter or
// this host is at its limit connections are welcomed and lost again, and whoever comes
// back at once makes more of the work that they are lost for. Owned by keepControl.
type backoff struct {
	wait    time.Duration
	most    time.Duration
	rested  bool          // the last connection lasted: the next one may be made at once
	session bool          // there was a welcome
	parted  bool          // the last connection was closed from there, and not at once: no crowd's
	told    time.Duration // when to come again; 0: it was not said
	often   int           // that was said in a row
	waited  time.Duration // because it was, in all
	kept    bool          // the next attempt is made when it was said
	presses bool          // the next attempt is of a client that is stuck, and takes no appointment
	pressed bool          // one was since the last welcome
	random  *rand.Rand
}

// newBackoff draws from the client's own randomness: a run of it can be repeated.
func newBackoff(random io.Reader) backoff {
	var seed [16]byte
	_, _ = io.ReadFull(random, seed[:]) // one that fails makes no key either
	pcg := rand.NewPCG(binary.BigEndian.Uint64(seed[:]), binary.BigEndian.Uint64(seed[8:]))
	return backoff{wait: RedialMin, most: FirstRedialMax, rested: true, random: rand.New(pcg)}
}

// ended notes how an attempt ended that was welcomed as next says, or not.
func (b *backoff) ended(now time.Duration, next *resumption, err error) {
	b.presses, b.kept = false, false
	if b.toldEnough() {
		b.often, b.waited = 0, 0 // what comes now is another one's word
	}
	if wait := (*port.Wait)(nil); errors.As(err, &wait) {
		b.told = max(min(wait.In, port.MaxWait, AppointedMost-b.waited), RedialMin)
		b.often, b.waited = b.often+1, b.waited+b.told
		return // an appointment is no failure
	}
	b.often, b.waited = 0, 0
	b.pressed = b.pressed && next == nil
	switch {
	case next != nil && (!b.session || now-next.since >= Lasting):
		b.wait, b.rested, b.session = RedialMin, true, true
	case next != nil || b.session:
		b.rested = false
	}
	b.parted = next != nil && now-next.since >= RedialMax && !errors.Is(err, os.ErrDeadlineExceeded)
	var refusal *Refusal
	switch {
	case !b.session:
		b.most = FirstRedialMax
	case next != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &refusal):
		b.most = CrowdMax // it was reached, and could not keep us
	default:
		b.most = RedialMax
	}
}

// toldEnough reports whether this gateway, or who is on the way to it, has proved nothing and
// said often enough that a turn comes: then another one is asked. Where the crowd is so large
// that its turns are further away than that, it gives an appointment as well; whoever queued
// instead would wait for seconds, be sent away, and come again, all of them.
func (b *backoff) toldEnough() bool { return b.often >= MaxAppointments || b.waited >= AppointedMost }

// press has the next attempt queue for a client that is stuck, and reports whether it may. That is
// so once: where a crowd is stuck, as when all nodes were restarted, it has its turns after that.
func (b *backoff) press() bool {
	b.presses = b.presses || !b.pressed
	b.pressed = true
	return b.presses
}

// atOnce reports whether a connection may be made without a wait, which is so once.
func (b *backoff) atOnce(why haste) bool {
	if why == moved {
		b.wait, b.told = RedialMin, 0
		return true
	}
	if b.told > 0 {
		return false
	}
	rested := b.rested
	b.rested = false
	return rested
}

// next is the wait before the next attempt. Who has an appointment comes then, or up to an
// eighth later, for a crowd may have the same.
func (b *backoff) next() time.Duration {
	if b.told > 0 {
		return min(b.told+time.Duration(b.random.Int64N(int64(b.told/8))), port.MaxWait)
	}
	wait := min(b.wait, b.most)
	b.wait, b.rested = min(wait*2, b.most), false
	return b.jittered(wait)
}

// expected is how long the next attempt would wait at most if the connection ended before it
// has lasted.
func (b *backoff) expected() time.Duration {
	if b.rested {
		return 0
	}
	return b.wait
}

// rounds cuts a wait into parts, after each of which a client that has one slice left need
// wait no longer: the next agent to die takes its traffic along. Where the arbiter is at its
// limit, so that connections are not welcomed, fall silent or end at once, it waits as all do.
func (b *backoff) rounds(wait time.Duration) (first, rest time.Duration) {
	if b.told > 0 || !b.parted || wait <= RedialMax {
		return wait, 0
	}
	first = b.jittered(RedialMax)
	return first, wait - first
}

func (b *backoff) jittered(wait time.Duration) time.Duration {
	return wait/2 + time.Duration(b.random.Int64N(int64(wait/2)))
}
