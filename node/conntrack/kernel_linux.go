package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Messages and groups of the kernel's connection tracking.
const (
	messageNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	messageGet    = messageNew + 1
	messageDelete = messageNew + 2

	groupNew     = 1
	groupUpdate  = 2
	groupDestroy = 3
)

// Kernel reads and writes the connections of this network namespace. It is
// for one goroutine at a time.
type Kernel struct{ conn *netlink.Conn }

// Open opens the kernel's connection tracking.
func Open() (*Kernel, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, failed(err, "open it")
	}
	return &Kernel{conn}, nil
}

// failed says what to do about a kernel that does not answer.
func failed(err error, what string) error {
	next := "the kernel must have nf_conntrack_netlink: try `modprobe nf_conntrack_netlink`"
	if errors.Is(err, unix.EPERM) {
		next = "run as root, or give the binary CAP_NET_ADMIN"
	}
	return fmt.Errorf("conntrack: %s: %w; %s", what, err, next)
}

// Close closes it; what it wrote stays.
func (k *Kernel) Close() error { return k.conn.Close() }

// Flows are the masqueraded flows from the prefixes.
func (k *Kernel) Flows(prefixes []netip.Prefix) (flows []Flow, err error) {
	for _, family := range familiesOf(prefixes) {
		messages, err := k.conn.Execute(netlink.Message{
			Header: netlink.Header{Type: messageGet, Flags: netlink.Request | netlink.Dump},
			Data:   header(family),
		})
		if err != nil {
			return nil, failed(err, "list the flows")
		}
		for _, m := range messages {
			if f, ok := decode(m.Data); ok && f.within(prefixes) {
				flows = append(flows, f)
			}
		}
	}
	return flows, nil
}

func familiesOf(prefixes []netip.Prefix) (families []uint8) {
	var seen [2]bool
	for _, p := range prefixes {
		family, i := familyOf(p.Addr()), 0
		if family == unix.AF_INET6 {
			i = 1
		}
		if !seen[i] {
			seen[i] = true
			families = append(families, family)
		}
	}
	return families
}

// Put makes a flow, or gives a known one its state.
func (k *Kernel) Put(f Flow) error {
	err := k.write(messageNew, netlink.Create|netlink.Excl, f.created)
	if errors.Is(err, unix.EEXIST) {
		err = k.write(messageNew, 0, f.changed)
	}
	if err != nil {
		return failed(err, "make a flow")
	}
	return nil
}

// Delete forgets a flow; one that is not there is no error.
func (k *Kernel) Delete(key Key) error {
	if err := k.write(messageDelete, 0, key.named); err != nil && !errors.Is(err, unix.ENOENT) {
		return failed(err, "forget a flow")
	}
	return nil
}

func (k *Kernel) write(kind uint16, flags netlink.HeaderFlags, body func() ([]byte, error)) error {
	data, err := body()
	if err != nil {
		return err
	}
	_, err = k.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Acknowledge | flags},
		Data:   data,
	})
	return err
}

// Event is one change in the kernel.
type Event struct {
	Flow
	Gone bool // the kernel has forgotten it
	Lost bool // changes were lost: list the flows again
}

// Events hears of every change of masqueraded flows.
type Events struct {
	conn     *netlink.Conn
	prefixes []netip.Prefix
}

// Listen begins to hear of the flows from the prefixes. The kernel tells only
// of flows that began while somebody listened.
func Listen(prefixes []netip.Prefix) (*Events, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, failed(err, "open it")
	}
	for _, group := range []uint32{groupNew, groupUpdate, groupDestroy} {
		if err := conn.JoinGroup(group); err != nil {
			return nil, errors.Join(failed(err, "listen"), conn.Close())
		}
	}
	// Best effort: what does not fit is reported as lost.
	_ = conn.SetReadBuffer(eventBuffer)
	return &Events{conn, prefixes}, nil
}

// Next calls tell for every change of one batch, and returns at the latest at
// until. It fails only once it is closed, or the kernel no longer tells.
func (e *Events) Next(until time.Time, tell func(Event)) error {
	if err := e.conn.SetReadDeadline(until); err != nil {
		return failed(err, "hear of flows")
	}
	messages, err := e.conn.Receive()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, unix.ENOBUFS):
		tell(Event{Lost: true})
		return nil
	case err != nil:
		return failed(err, "hear of flows")
	}
	for _, m := range messages {
		if f, ok := decode(m.Data); ok && f.within(e.prefixes) {
			tell(Event{Flow: f, Gone: m.Header.Type == messageDelete})
		}
	}
	return nil
}

// Close ends Next, from any goroutine.
func (e *Events) Close() error { return e.conn.Close() }
