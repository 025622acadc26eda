package lab

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxHeld is how many frames a relay holds in each direction; more are lost.
const maxHeld = 8192

// Relay is a slow link: it carries frames between two devices of one host and
// holds each for a while. It stands in for the queueing discipline that not
// every kernel has.
type Relay struct {
	delay  atomic.Int64 // of each direction, ns
	ending atomic.Bool
	done   sync.WaitGroup
}

// frame waits for its time.
type frame struct {
	data []byte
	due  time.Time
}

// Relay joins two devices that are in no bridge. Senders behind them must not
// leave segmentation and checksums to the device.
func (s *Space) Relay(one, other string) *Relay {
	s.world.Helper()
	r := &Relay{}
	var ends [2]int
	if err := s.Do(func() (err error) {
		if ends[0], err = packetSocket(one, unix.SOCK_RAW); err != nil {
			return err
		}
		if ends[1], err = packetSocket(other, unix.SOCK_RAW); err != nil {
			return errors.Join(err, unix.Close(ends[0]))
		}
		return nil
	}); err != nil {
		s.world.Fatalf("lab: relay of %s: %v", s.Name, err)
	}
	for i := range ends {
		held := make(chan frame, maxHeld)
		r.done.Add(2)
		go r.take(ends[i], held)
		go r.give(ends[1-i], held)
	}
	s.world.Cleanup(func() {
		r.ending.Store(true)
		r.done.Wait()
		_, _ = unix.Close(ends[0]), unix.Close(ends[1])
	})
	return r
}

// Delay is how long each frame is held from now on.
func (r *Relay) Delay(d time.Duration) { r.delay.Store(int64(d)) }

// take reads frames that came in by a device.
func (r *Relay) take(fd int, held chan<- frame) {
	defer r.done.Done()
	defer close(held)
	buffer := make([]byte, frameSize)
	for !r.ending.Load() {
		n, from, err := unix.Recvfrom(fd, buffer, 0)
		link, ok := from.(*unix.SockaddrLinklayer)
		if err != nil || !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue // nothing for a tenth of a second, or what this relay sent
		}
		select {
		case held <- frame{append([]byte(nil), buffer[:n]...), time.Now().Add(time.Duration(r.delay.Load()))}:
		default: // a full link loses
		}
	}
}

// give sends each frame when its time has come.
func (r *Relay) give(fd int, held <-chan frame) {
	defer r.done.Done()
	for f := range held {
		time.Sleep(time.Until(f.due))
		_, _ = unix.Write(fd, f.data) // a link that is down loses
	}
}
