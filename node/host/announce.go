package host

import (
	"log/slog"
	"net/netip"
	"time"
)

// announcement tells the neighbours several times, as a broadcast may be lost.
type announcement struct {
	quit, done chan struct{}
}

// announce sends the first announcement before it returns.
func announce(dev string, a netip.Addr, log *slog.Logger) *announcement {
	n := &announcement{quit: make(chan struct{}), done: make(chan struct{})}
	tell := func() {
		if err := announceOnce(dev, a); err != nil {
			log.Warn("could not announce an inside address",
				"address", a, "interface", dev, "error", err)
		}
	}
	tell()
	go func() {
		defer close(n.done)
		for _, wait := range announceWaits() {
			select {
			case <-n.quit:
				return
			case <-time.After(wait):
				tell()
			}
		}
	}()
	return n
}

// stop ends it and waits until it has ended; called once.
func (n *announcement) stop() {
	close(n.quit)
	<-n.done
}
