package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// insideStack is what a node's packet engine and the inside network have
// between them: the kernel's stack behind a TUN, or one in this process.
type insideStack interface {
	agent.Host
	device() tun.Device
	uso() bool // takes UDP super-packets
	// obstacles are what is in the way of packets just now; others are inside
	// addresses to try them with.
	obstacles(others []netip.Addr) []string
	// blocked is what to say when packets do not find through to others; named is
	// whether obstacles were.
	blocked(others []netip.Addr, named bool) string
	// Faults are what of the host is not whole just now, PutBack counts what other
	// software removed and is back. Both are cheap.
	Faults() []string
	PutBack() map[string]uint64
	// flows is how many flows end in this process, dropped what it has not carried
	// of them, by reason. What a kernel drops it counts itself.
	flows() int
	dropped() map[string]uint64
	// rest is told before the device is closed: nobody else removes what goes then.
	rest()
	// close gives the host back, after the device was closed.
	close(left bool) error
}

// openStack opens the stack that init or join chose. Lost hears that it cannot go on,
// and rival that another host answers for an address of this one.
func openStack(self datadir.Node, dir *datadir.Dir, log *slog.Logger, lost func(error), rival func(netip.Addr)) (insideStack, error) {
	if self.Userspace {
		return openProcessStack(self)
	}
	return openKernelStack(self, dir, log, lost, rival)
}

// kernelStack is the host's own stack.
type kernelStack struct {
	*host.Node
	self datadir.Node
	tun  tun.Device
}

// openKernelStack prepares the host before the TUN comes up, so that nothing
// meant for the tunnel ever leaves in clear.
func openKernelStack(self datadir.Node, dir *datadir.Dir, log *slog.Logger, lost func(error), rival func(netip.Addr)) (insideStack, error) {
	prepared, err := host.PrepareNode(host.NodeConfig{
		TUN: self.TUN, Pool: self.Pool, InsideInterface: self.InsideIf, Inside: self.Inside, Port: self.Listen.Port(),
		InsidePort: insidePort(self), StateFile: dir.Path(datadir.HostFile), Lost: lost, Rival: rival, Log: log,
		Masquerade: self.Egress == registry.EgressMasquerade, PathTest: pathTests(self.Pool),
	})
	if err != nil {
		return nil, err
	}
	k := &kernelStack{Node: prepared, self: self}
	if k.tun, err = tun.Open(self.TUN, workers(), NodeMTU); err != nil {
		return nil, errors.Join(err, k.close(false))
	}
	if err := prepared.Up(); err != nil {
		return nil, errors.Join(err, k.tun.Close(), k.close(false))
	}
	for _, warning := range prepared.Warnings() {
		log.Warn(warning)
	}
	return k, nil
}

func (k *kernelStack) device() tun.Device                     { return k.tun }
func (k *kernelStack) uso() bool                              { return true }
func (k *kernelStack) Reach(pages.Addresses[*admit.Rule])     {} // its filter knows interfaces
func (k *kernelStack) obstacles(others []netip.Addr) []string { return k.Obstacles(others) }
func (k *kernelStack) flows() int                             { return 0 }
func (k *kernelStack) rest()                                  { k.Rest() }
func (k *kernelStack) dropped() map[string]uint64             { return nil }

// blocked says what is in the way of opened packets, unless obstacles of the
// host were found. A router beside it may drop them too: their replies come
// another way.
func (k *kernelStack) blocked(others []netip.Addr, found bool) string {
	does := fmt.Sprintf("this host does not forward from %s to %s", k.self.TUN, k.self.InsideIf)
	if found {
		return does
	}
	own, _ := host.Networks(k.self.InsideIf)
	for _, other := range others {
		near := slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(other) })
		if len(own) > 0 && !near {
			return fmt.Sprintf("what this host forwards from %s does not reach %s on another network: allow it in the host's firewall "+
				"(nft list ruleset), and on the routers between (no strict reverse path filter there, as in net.ipv4.conf.*.rp_filter=2). "+
				"Until then it goes by way of the egress", k.self.TUN, other)
		}
	}
	return does + ": allow it in the host's firewall (nft list ruleset)"
}

// close puts the host's settings back. A member that will run again leaves its
// blackhole routes; one that left the mesh does not.
func (k *kernelStack) close(left bool) error { return k.Close(!left) }
