package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
)

// oneHost is the site of last resort: a host that refuses namespaces, and
// gives no TUN. Nodes are addresses of its loopback network, the client's
// programs enter the tunnel by a proxy, and the web server is where only the
// client's egress is to fetch from.
type oneHost struct{ port, webPort, proxyPort uint16 }

// Addresses of one host. The client's own packets have 127.0.0.1, which must be
// no node's.
func nodeHere(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(11 + i)}) }

const webHere = "127.0.0.100"

// playOnOneHost is the whole demo without a namespace, after another one was
// refused.
func playOnOneHost(ctx context.Context, c Config, dir string) (passed bool, err error) {
	fmt.Fprintln(c.Stderr, "instead: the same mesh without root and without namespaces, on loopback addresses of this machine")
	site, err := findOneHost(c.Nodes)
	if err != nil {
		return false, err
	}
	ctx, end := context.WithCancel(ctx)
	s := newStage(c)
	passed, err = s.judge(ctx, func() error { return s.settle(site, dir) })
	end()
	s.company.wait()
	return passed, err
}

// findOneHost looks for ports that are free on every node's address.
func findOneHost(nodes int) (*oneHost, error) {
	for tries := range maxPortTries {
		o := &oneHost{port: meshPort}
		if tries > 0 {
			o.port = uint16(20000 + rand.IntN(10000))
		}
		if o.free(nodes) != nil {
			continue
		}
		var err [2]error
		o.webPort, err[0] = freePort(webHere)
		o.proxyPort, err[1] = freePort("127.0.0.1")
		return o, errors.Join(err[:]...)
	}
	return nil, fmt.Errorf("demo: no free ports on %s and its neighbours after %d tries", nodeHere(0), maxPortTries)
}

// free reports whether the nodes' ports are: mesh, gossip and inside.
func (o *oneHost) free(nodes int) error {
	for i := range nodes {
		for port := o.port; port < o.port+3; port++ {
			at := netip.AddrPortFrom(nodeHere(i), port)
			tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			tcp.Close()
			udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			udp.Close()
		}
	}
	return nil
}

func freePort(address string) (uint16, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// start starts a process that ends with this one.
func (o *oneHost) start(_ string, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Start()
}

func (o *oneHost) at(i int) string { return netip.AddrPortFrom(nodeHere(i), o.port).String() }

func (o *oneHost) peer() string         { return o.at(0) }
func (o *oneHost) place(i int) []string { return []string{"--userspace", "--listen", o.at(i)} }
func (o *oneHost) mesh() []string       { return []string{"--pool", poolText, "--push", webHere + "/32"} }
func (o *oneHost) web() string          { return net.JoinHostPort(webHere, strconv.Itoa(int(o.webPort))) }
func (o *oneHost) proxy() string        { return "socks5://" + o.proxyAt() }
func (o *oneHost) spares() bool         { return true }

// connect asks for equal shares: nodes of one host measure the same CPUs, so by
// capacity an agent would get nothing in a busy moment.
func (o *oneHost) connect() []string {
	return []string{"--proxy", o.proxyAt(), "--slice-shares", "equal"}
}

func (o *oneHost) proxyAt() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(o.proxyPort)))
}

func (o *oneHost) shows() (does, doesNot string) {
	return "real nodes and a real client that agreed keys, sliced, sealed and healed, all without root",
		"networks apart from each other, a TUN, a kernel that forwards, nor the death of the egress, with which these connections end"
}

func (o *oneHost) client() string {
	return "a shell; curl --proxy " + o.proxy() + " http://" + o.web() + "/ goes through the mesh"
}
