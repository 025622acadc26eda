package node

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/node/host"
)

// ownAddresses are this host's addresses that no client reaches because a
// network that it was given happens to hold them: outer ones, loopback, those of
// other interfaces.
func (n *Node) ownAddresses() ([]netip.Addr, error) {
	outer := []netip.Addr{n.self.Listen.Addr(), n.self.Outer.Addr(), n.self.Other.Addr()}
	tun := n.self.TUN
	if n.self.Userspace {
		tun = ""
	}
	all, err := host.Foreign(tun, n.self.InsideIf, n.self.Inside, outer...)
	slices.SortFunc(all, netip.Addr.Compare)
	return all, err
}

// keepOwn tells the agent when addresses of this host come and go, and with them and
// with routes who reaches the inside interface. Beside the kernel's word it looks now
// and then, where that word is not to be had.
func (n *Node) keepOwn(ctx context.Context) {
	changed := make(chan struct{}, 1)
	n.goDo("watch of the network", func() {
		err := host.WatchNetwork(ctx, func() {
			select {
			case changed <- struct{}{}:
			default: // one that waits is enough
			}
		})
		if err != nil {
			n.config.Log.Warn("changes of this host's addresses are seen late", "every", LookAtAddresses, "error", err)
		}
	})
	look := time.NewTicker(LookAtAddresses)
	defer look.Stop()
	told, inside := n.own, exposure{is: n.exposed}
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-look.C:
		}
		begin := time.Now()
		told = n.tellOwn(ctx, told)
		n.tellInside(ctx, &inside)
		select { // a host may have very many routes, which change all the time
		case <-ctx.Done():
		case <-time.After(FaultsShare * time.Since(begin)):
		}
	}
}

// tellOwn tells the agent this host's addresses where they are others than it was
// told last.
func (n *Node) tellOwn(ctx context.Context, told []netip.Addr) []netip.Addr {
	now, err := n.ownAddresses()
	if err != nil {
		n.config.Log.Warn("this host's addresses cannot be read; those of before count", "error", err)
		return told
	}
	if !slices.Equal(now, told) {
		n.agent.SetOwn(ctx, now)
	}
	return now
}

// exposure is whether strangers reach the inside interface. That they do counts at
// once, that they do no more after ExposedFor: a route that comes and goes must not
// have the mesh change its ways each time.
type exposure struct {
	is bool
	at time.Time // when it was seen last
}

// judge takes what is seen, and reports whether the answer changes by it.
func (e *exposure) judge(seen bool, at time.Time) (changed bool) {
	before := e.is
	if seen {
		e.is, e.at = true, at
	} else if at.Sub(e.at) >= ExposedFor {
		e.is = false
	}
	return e.is != before
}

// tellInside tells the agent when strangers come to the inside interface, or reach
// it no more.
func (n *Node) tellInside(ctx context.Context, inside *exposure) {
	seen, err := n.judgeInside()
	if err != nil {
		n.config.Log.Debug("who reaches the inside interface is not known; what was known counts", "error", err)
		return
	}
	if inside.judge(seen, time.Now()) {
		n.sayInside(inside.is)
		n.agent.SetExposed(ctx, inside.is)
	}
}

// judgeInside finds out whether strangers reach where this node takes what others
// hand on: there they could send in any member's name, so the mesh seals it.
func (n *Node) judgeInside() (exposed bool, err error) {
	var outers []netip.Addr
	for _, at := range append(n.self.Outers(), n.self.Listen) {
		outers = append(outers, at.Addr())
	}
	return host.Exposed(n.self.InsideIf, outers)
}

func (n *Node) sayInside(exposed bool) {
	at := cmp.Or(n.self.InsideIf, n.self.Inside.String())
	if exposed {
		n.config.Log.Info("strangers reach the inside interface: what nodes hand on is sealed", "at", at)
	} else if n.agent != nil {
		n.config.Log.Info("strangers reach the inside interface no more", "at", at)
	}
}
