package demo

import (
	"context"
	"fmt"
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
type oneHost struct {
	port  uint16       // the first of portsOfDemo
	claim net.Listener // to these ports
}

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
	defer site.claim.Close() // when its processes have ended: the ports are theirs until then
	ctx, end := context.WithCancel(ctx)
	s := newStage(c)
	passed, err = s.judge(ctx, func() error { return s.settle(site, dir) })
	end()
	s.company.wait()
	return passed, err
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
func (o *oneHost) web() string          { return net.JoinHostPort(webHere, portText(o.port+webOffset)) }
func (o *oneHost) proxy() string        { return "socks5://" + o.proxyAt() }
func (o *oneHost) spares() bool         { return true }

// connect asks for equal shares: nodes of one host measure the same CPUs, so by
// capacity an agent would get nothing in a busy moment.
func (o *oneHost) connect() []string {
	return []string{"--proxy", o.proxyAt(), "--slice-shares", "equal"}
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }

func (o *oneHost) proxyAt() string {
	return net.JoinHostPort("127.0.0.1", portText(o.port+proxyOffset))
}

func (o *oneHost) shows() (does, doesNot string) {
	return "real nodes and a real client that agreed keys, sliced, sealed and healed, all without root",
		"networks apart from each other, a TUN, a kernel that forwards, nor the death of the egress, with which these connections end"
}

func (o *oneHost) client() string {
	return "a shell; curl --proxy " + o.proxy() + " http://" + o.web() + "/ goes through the mesh"
}
