package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Exit is how packets to some address leave this host; the zero Exit: not at
// all. Two that are equal lead the same way.
type Exit struct {
	Device int // index
	Source netip.Addr
	Next   netip.Addr // router; zero when the address is on the link
}

// Leads reports whether there is a way.
func (e Exit) Leads() bool { return e.Device != 0 }

// ExitTo finds the way of a packet with a mark.
func ExitTo(to netip.Addr, mark int) Exit {
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{Mark: uint32(mark)})
	if err != nil || len(routes) == 0 {
		return Exit{} // no route is an answer too
	}
	e := Exit{Device: routes[0].LinkIndex}
	if source, ok := netip.AddrFromSlice(routes[0].Src); ok {
		e.Source = source.Unmap()
	}
	if next, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		e.Next = next.Unmap()
	}
	return e
}

// WatchNetwork calls changed after links, addresses or routes of this host
// have changed, at most once per SettleTime, until ctx ends. What changed is
// for the caller to see; a burst of changes is one.
func WatchNetwork(ctx context.Context, changed func()) error {
	file, err := openMessages(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	defer file.Close()
	stop := context.AfterFunc(ctx, func() { file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	message := make([]byte, 1<<16) // only that there is one matters
	for {
		if err := awaitMessage(ctx, file, message, time.Time{}); err != nil {
			return ignoreEnd(ctx, err)
		}
		settled := time.Now().Add(SettleTime)
		for err = nil; err == nil; {
			err = awaitMessage(ctx, file, message, settled)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return ignoreEnd(ctx, err)
		}
		changed()
	}
}

// awaitMessage reads one message; one that was lost in a full buffer counts.
func awaitMessage(ctx context.Context, file *os.File, b []byte, until time.Time) error {
	if err := file.SetReadDeadline(until); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return os.ErrDeadlineExceeded // the deadline of the end may just have been overwritten
	}
	if _, err := file.Read(b); err != nil && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	return nil
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("host: watch the network: %w", err)
}
