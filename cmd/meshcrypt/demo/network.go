package demo

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

//	client ── outer ──┬── n1 ──┬── inside ── web
//	                  ├── n2 ──┤
//	                  └── n3 ──┘
//
// Two bridges stand in the stage's own namespace and have no addresses, so
// nothing passes between the networks but through a node.
const (
	outerName, insideName = "outer", "inside"
	outerPort, insidePort = "outer0", "inside0" // as a host sees them
	clientHost, webHost   = "client", "web"
	poolText              = "10.77.0.0/16"
	insideText            = "10.20.0.0/24"
	movingText            = "10.20.0.200"
	webText               = "10.20.0.100"
	meshPort              = 6484
)

func nodeName(i int) string         { return fmt.Sprintf("n%d", i+1) }
func outerAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}) }
func insideAddr(i int) netip.Addr   { return netip.AddrFrom4([4]byte{10, 20, 0, byte(i + 1)}) }
func clientAddress() netip.Addr     { return netip.AddrFrom4([4]byte{198, 51, 100, 100}) }

// network is the namespaces of one demo.
type network struct {
	home  netns.NsHandle // the stage's own, with the bridges
	hosts map[string]netns.NsHandle
}

// build makes the whole network. The namespaces end with the process.
func build(nodes int) (*network, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("demo: own namespace: %w", err)
	}
	n := &network{home: home, hosts: make(map[string]netns.NsHandle)}
	if err := errors.Join(bridge(outerName), bridge(insideName), loopback(nil)); err != nil {
		return nil, err
	}
	for i := range nodes {
		if err := errors.Join(n.addHost(nodeName(i)),
			n.plug(nodeName(i), outerName, outerPort, outerAddress(i)),
			n.plug(nodeName(i), insideName, insidePort, insideAddr(i))); err != nil {
			return nil, err
		}
	}
	return n, errors.Join(
		n.addHost(clientHost), n.plug(clientHost, outerName, outerPort, clientAddress()),
		n.addHost(webHost), n.plug(webHost, insideName, insidePort, netip.MustParseAddr(webText)),
		n.routePool())
}

func bridge(name string) error {
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("demo: bridge %s: %w", name, err)
	}
	return netlink.LinkSetUp(link)
}

// loopback brings a namespace's lo up; nil is the present one.
func loopback(h *netlink.Handle) error {
	if h == nil {
		h = &netlink.Handle{}
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

// addHost makes an empty namespace. The caller holds the thread.
func (n *network) addHost(name string) error {
	ns, err := netns.New()
	if err != nil {
		return fmt.Errorf("demo: namespace %s: %w", name, err)
	}
	n.hosts[name] = ns
	if err := netns.Set(n.home); err != nil {
		return fmt.Errorf("demo: back from %s: %w", name, err)
	}
	return n.at(name, loopback)
}

// at does something inside a host's namespace, by a socket of that namespace.
func (n *network) at(host string, do func(*netlink.Handle) error) error {
	ns, ok := n.hosts[host]
	if !ok {
		return nil // its own error was reported
	}
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", host, err)
	}
	defer h.Close()
	return do(h)
}

// plug connects a host to a bridge.
func (n *network) plug(host, to, port string, addr netip.Addr) error {
	ns, ok := n.hosts[host]
	if !ok {
		return nil // its own error was reported
	}
	cable := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: host + "." + to},
		PeerName:  port, PeerNamespace: netlink.NsFd(ns),
	}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("demo: cable %s to %s: %w", host, to, err)
	}
	master, err := netlink.LinkByName(to)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.LinkSetMaster(cable, master), netlink.LinkSetUp(cable)); err != nil {
		return fmt.Errorf("demo: cable %s to %s: %w", host, to, err)
	}
	return n.at(host, func(h *netlink.Handle) error {
		link, err := h.LinkByName(port)
		if err != nil {
			return err
		}
		prefix, err := netlink.ParseIPNet(netip.PrefixFrom(addr, 24).String())
		if err != nil {
			return err
		}
		return errors.Join(h.AddrAdd(link, &netlink.Addr{IPNet: prefix}), h.LinkSetUp(link))
	})
}

// routePool sends the web server's replies to the moving inside address.
func (n *network) routePool() error {
	return n.at(webHost, func(h *netlink.Handle) error {
		pool, err := netlink.ParseIPNet(poolText)
		if err != nil {
			return err
		}
		return h.RouteAdd(&netlink.Route{Dst: pool, Gw: netip.MustParseAddr(movingText).AsSlice()})
	})
}

// start starts a process in a host's namespace: a child is born in the
// namespace of the thread that forks it.
func (n *network) start(host string, cmd *exec.Cmd) error {
	runtime.LockOSThread()
	if err := netns.Set(n.hosts[host]); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("demo: into %s: %w", host, err)
	}
	err := cmd.Start()
	if back := netns.Set(n.home); back != nil {
		// The thread stays locked and ends with its goroutine: no other work
		// may run in the wrong namespace.
		return errors.Join(err, fmt.Errorf("demo: back from %s: %w", host, back))
	}
	runtime.UnlockOSThread()
	return err
}

// seclude makes the file system's view our own: dir becomes memory that ends
// with the demo, and /proc shows only our processes where the kernel allows it.
func seclude(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("demo: private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("demo: memory at %s: %w", dir, err)
	}
	// A container that hides parts of /proc does not get a new one; the old
	// one serves, it only shows more.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}

// executable is this binary, also after it was replaced by a newer build.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("demo: own binary: %w", err)
	}
	return path, nil
}
