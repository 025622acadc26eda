package node

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/masquerade"
	"github.com/meshcrypt/meshcrypt/node/netstack"
	"github.com/meshcrypt/meshcrypt/node/order"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// processStack is a stack in this process, for nodes without a TUN: flows of
// clients end in it. Nothing of the host changes, so nothing is put back.
type processStack struct {
	self    datadir.Node
	stack   *netstack.Stack
	ordered tun.Device // the same, as the engine writes to it
	egress  *masquerade.Egress
}

func openProcessStack(self datadir.Node) (insideStack, error) {
	// No more than every slice carries from its first packet on: a new one that
	// had to refuse or cut what this stack sends would slow its TCP to a crawl.
	stack, err := netstack.New(workers(), pmtu.Legacy)
	if err != nil {
		return nil, err
	}
	p := &processStack{self: self, stack: stack, ordered: order.Wrap(stack)}
	if p.egress, err = masquerade.Start(stack, masquerade.Config{
		From: self.Inside, Tests: pathTests(self.Pool), InsidePort: insidePort(self),
	}); err != nil {
		return nil, errors.Join(err, p.ordered.Close())
	}
	return p, nil
}

func (p *processStack) device() tun.Device { return p.ordered }
func (p *processStack) uso() bool          { return false }
func (p *processStack) obstacles([]netip.Addr) []string {
	return nil // no setting of the host is in the way of its own sockets
}

func (p *processStack) blocked([]netip.Addr, bool) string {
	return fmt.Sprintf("what this process sends from %s does not reach UDP port %d of the other nodes: allow it in the firewalls between",
		p.self.Inside, insidePort(p.self))
}

// Faults implements insideStack: nothing of the host is ours.
func (p *processStack) Faults() []string { return nil }

// PutBack implements insideStack.
func (p *processStack) PutBack() map[string]uint64 { return nil }

func (p *processStack) flows() int       { return p.egress.Flows() }
func (p *processStack) rest()            {}
func (p *processStack) close(bool) error { return p.egress.Close() }

// dropped is packets that the stack did not take or could not hand over, and flows
// that did not begin.
func (p *processStack) dropped() map[string]uint64 {
	full, bad := p.stack.Dropped()
	all := map[string]uint64{"stack-queue": full, "stack-malformed": bad}
	for reason, count := range p.egress.Refused() {
		all["egress-"+reason] = count
	}
	return all
}

// No address moves to and from this host: each flow has the address of the host
// that it ends on, and dies with it.

// HoldAddress implements agent.Host.
func (p *processStack) HoldAddress(netip.Addr) error { return nil }

// ReleaseAddress implements agent.Host.
func (p *processStack) ReleaseAddress(netip.Addr) error { return nil }

// Reach implements agent.Host.
func (p *processStack) Reach(rules pages.Addresses[*admit.Rule]) { p.egress.Reach(rules) }

// Hide implements agent.Host.
func (p *processStack) Hide(netip.Prefix, netip.Addr) error { return nil }
