package host

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// announcement makes the neighbours send an address's packets to this host. It
// tells them again and again, as a broadcast may be lost. Who asks is answered by
// the kernel in IPv4, which answers for any address of the host, and by us in
// IPv6, where it answers for those of the asked interface alone.
type announcement struct {
	quit  chan struct{}
	group sync.WaitGroup
	asked *neighbours // nil in IPv4
}

// announce sends the first announcement before it returns. In IPv6 rival hears of
// another host that has the address, in IPv4 see watchRivals.
func announce(dev string, a netip.Addr, rival func(netip.Addr), log *slog.Logger) (*announcement, error) {
	n := &announcement{quit: make(chan struct{})}
	once := func() error { return announceARP(dev, a) }
	if a.Is6() {
		var err error
		if n.asked, err = openNeighbours(dev, a); err != nil {
			return nil, failed(err, "the daemon needs CAP_NET_RAW", "answer for %v on %s", a, dev)
		}
		n.asked.rival = rival
		once = n.asked.announce
		n.group.Go(n.asked.serve)
	}
	failing := false
	tell := func() {
		err := once()
		if err != nil && !failing {
			log.Warn("could not announce an inside address",
				"address", a, "interface", dev, "error", err)
		}
		failing = err != nil
	}
	tell()
	n.group.Go(func() { n.repeat(tell) })
	return n, nil
}

// repeat tells the neighbours again for as long as the address is held: another
// host that took it over by mistake may have given it back since, or died with
// it, and has left them its own link address.
func (n *announcement) repeat(tell func()) {
	for wait := announceFirst; ; wait = announceEvery {
		select {
		case <-n.quit:
			return
		case <-time.After(wait):
			tell()
		}
	}
}

// stop ends it and waits until it has ended; called once.
func (n *announcement) stop() {
	close(n.quit)
	if n.asked != nil {
		n.asked.close()
	}
	n.group.Wait()
}
