package node

import (
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

// keepOwn tells the agent when addresses of this host come and go. Beside the
// kernel's word it looks now and then, where that word is not to be had.
func (n *Node) keepOwn(ctx context.Context) {
	changed := make(chan struct{}, 1)
	n.group.Go(func() {
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
	for told := n.own; ; {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-look.C:
		}
		now, err := n.ownAddresses()
		if err != nil {
			n.config.Log.Warn("this host's addresses cannot be read; those of before count", "error", err)
			continue
		}
		if !slices.Equal(now, told) {
			told = now
			n.agent.SetOwn(ctx, now)
		}
	}
}
