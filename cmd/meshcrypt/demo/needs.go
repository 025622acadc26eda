package demo

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

// lacking says what of the kernel nodes would miss here, and the line that gives
// it; nil is nothing. It is asked in the demo's own namespaces, before a process is
// started: the nodes would say the same one by one, and later.
func lacking() *Refused {
	for _, need := range []struct {
		what string
		try  func() error
		line func(error) string
	}{
		{"a TUN", func() error { return openTUN(tunPath) }, tunLine},
		{"bridges and cables", tryLinks, func(error) string { return "sudo modprobe -a bridge veth" }},
		{"packet filters", tryFilter, func(error) string { return "sudo modprobe nf_tables" }},
	} {
		if err := need.try(); err != nil {
			return &Refused{What: need.what, Cause: err, Next: "run: " + need.line(err)}
		}
	}
	return nil
}

func openTUN(path string) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return unix.Close(fd)
}

// tunLine depends on how the device is missing: nothing there, nothing behind
// it, or not for everybody, as udev would have it.
func tunLine(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "sudo chmod 666 " + tunPath
	case errors.Is(err, fs.ErrNotExist):
		return "sudo sh -c 'modprobe tun; mkdir -p /dev/net; [ -c " + tunPath + " ] || mknod -m 666 " + tunPath +
			" c 10 200' (a container: start it with --device " + tunPath + ")"
	}
	return "sudo modprobe tun"
}

// tryLinks makes one link of each kind, and removes it.
func tryLinks() error {
	for _, link := range []netlink.Link{
		&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "try0"}},
		&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "try0"}, PeerName: "try1"},
	} {
		if err := errors.Join(netlink.LinkAdd(link), netlink.LinkDel(link)); err != nil {
			return fmt.Errorf("%s: %w", link.Type(), err)
		}
	}
	return nil
}

// tryFilter asks nf_tables for its generation.
func tryFilter() error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	request.AddData(&nl.Nfgenmsg{Version: nl.NFNETLINK_V0})
	if _, err := request.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
		return fmt.Errorf("nf_tables: %w", err)
	}
	return nil
}

// Refused is a machine that does not let this user have what the demo needs.
type Refused struct {
	What  string // its own namespaces, a TUN
	Cause error
	Next  string
}

// Error gives the cause; Next stands apart.
func (r *Refused) Error() string {
	return fmt.Sprintf("this machine refuses the demo %s: %v", r.What, r.Cause)
}

// Code is how the first process ends that lacks something.
func (r *Refused) Code() int { return codeRefused }

// tell says it aloud, for the demo goes on without.
func (r *Refused) tell(w io.Writer) { fmt.Fprintf(w, "%v\nto see all of it, %s\n", r, r.Next) }

// Unwrap gives the system's own error.
func (r *Refused) Unwrap() error { return r.Cause }
