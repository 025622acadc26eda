package node

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/slots"
)

// keepAcquaintances tells the TCP port who is no stranger: nodes, and clients whose
// packets passed here. They have handshakes of their own there.
func (n *Node) keepAcquaintances(ctx context.Context) {
	every := time.NewTicker(AcquaintEvery)
	defer every.Stop()
	for {
		n.port.Know(n.nodeAddresses(), n.forward.known(nil, MaxAcquaintances))
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// nodeAddresses are those from which another node may come.
func (n *Node) nodeAddresses() (all []netip.Addr) {
	for _, row := range n.members.all() {
		for _, a := range []netip.Addr{row.Outer.Addr(), row.Other.Addr(), row.Inside} {
			if a.IsValid() {
				all = append(all, a)
			}
		}
	}
	return all
}

// besieged says what goes on when strangers want more handshakes than there are.
func besieged(r slots.Report, since time.Time) string {
	sources := fmt.Sprintf("%d sources", r.Sources)
	switch {
	case r.Many:
		sources = "more than " + sources
	case r.Sources == 1:
		sources = "one source"
	}
	return fmt.Sprintf("strangers crowd the TCP port: %d connections from %s refused since %s; "+
		"nodes and known addresses go first, others wait their turn", r.Refused, sources, since.Format(time.TimeOnly))
}
