// Package masquerade is a masquerading egress without a kernel's help: flows of
// clients end in this process, which speaks to their destinations in its own
// host's name. It owns the flows under way and their limits, and refuses those
// that their client may not have. The stack that the flows end in is
// node/netstack's, and every packet is judged before (node/dataplane).
//
// Its flows live in this process alone: they end with it, and no second can
// take them over.
package masquerade

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/netstack"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/splice"
)

// Config is what an Egress is built from.
type Config struct {
	// From is this host's own address: flows of its family have it.
	From netip.Addr
	// Tests are the addresses of the pool that nodes test their path from. They
	// reach InsidePort of any address, where nodes listen; nobody else does.
	Tests      []netip.Addr
	InsidePort uint16
}

// Egress ends the flows of a stack. All methods are safe for concurrent use.
type Egress struct {
	config Config
	rules  atomic.Pointer[pages.Addresses[*admit.Rule]] // by lease
	table  table
	ctx    context.Context
	cancel func()
	counts [reasons]atomic.Uint64
}

// Start makes a stack answer for all destinations; nothing is reached before
// Reach was called.
func Start(stack *netstack.Stack, c Config) (*Egress, error) {
	ctx, cancel := context.WithCancel(context.Background())
	e := &Egress{config: c, ctx: ctx, cancel: cancel}
	e.table.open()
	e.Reach(pages.Addresses[*admit.Rule]{})
	return e, stack.Answer(netstack.Answerer{TCP: e.tcp, UDP: e.udp})
}

// Close ends all flows.
func (e *Egress) Close() error {
	e.cancel()
	e.table.close()
	return nil
}

// Flows is how many flows of clients are under way.
func (e *Egress) Flows() int {
	return e.table.size(func(f flow) bool { return !slices.Contains(e.config.Tests, f.From.Addr()) })
}

// Refused counts flows that did not begin, by name of the reason.
func (e *Egress) Refused() map[string]uint64 {
	all := make(map[string]uint64)
	for r := range e.counts {
		if n := e.counts[r].Load(); n > 0 {
			all[reason(r).String()] = n
		}
	}
	return all
}

// Reach replaces what the clients may reach, by lease. It must not be changed
// afterwards. Flows under way stay here; their packets are judged before.
func (e *Egress) Reach(rules pages.Addresses[*admit.Rule]) { e.rules.Store(&rules) }

// enter notes a flow that may begin; the reason why not, otherwise.
func (e *Egress) enter(f flow) reason {
	if !e.may(f.Flow) {
		return notOffered
	}
	return e.table.enter(f)
}

func (e *Egress) refuse(r reason) { e.counts[r].Add(1) }

// tcp carries one connection: the client is answered only when the destination
// was, and as it was.
func (e *Egress) tcp(r *netstack.TCPRequest) {
	f := flow{tcp: true, Flow: r.Flow}
	if why := e.enter(f); why != fine {
		e.refuse(why)
		r.Refuse()
		return
	}
	defer e.table.leave(f)
	outside, err := e.dial(f)
	if err != nil {
		e.refuse(unreached)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT) {
			r.Ignore()
		} else {
			r.Refuse()
		}
		return
	}
	client, err := r.Accept()
	if err != nil {
		_ = splice.SetLinger(outside, 0) // the client is gone: what it asked for is broken off
		outside.Close()
		return
	}
	end := func() {
		client.Close()
		outside.Close()
	}
	if !e.table.carry(f, end) {
		end()
		return
	}
	splice.Both(client, outside)
}

// dial speaks to a destination in this host's name.
func (e *Egress) dial(f flow) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(e.ctx, DialTimeout)
	defer cancel()
	from := netip.AddrPortFrom(e.config.From, 0)
	sameFamily := from.IsValid() && from.Addr().BitLen() == f.To.Addr().BitLen()
	network, dialer := "udp", net.Dialer{}
	if f.tcp {
		network = "tcp"
	}
	switch {
	case sameFamily && f.tcp:
		dialer.LocalAddr = net.TCPAddrFromAddrPort(from)
	case sameFamily:
		dialer.LocalAddr = net.UDPAddrFromAddrPort(from)
	}
	return dialer.DialContext(ctx, network, f.To.String())
}
