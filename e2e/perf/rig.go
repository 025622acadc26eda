package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// The rig. One side of a comparison uses `gateway` as a plain router towards
// `agent`, the other runs its nodes there; the founder runs aside, drained, so
// that the arbiter's work is counted but carries no packet.
//
//	client ── .10   .1 ┌─gateway─┐ .1      .2 ┌─agent─┐ .2        .100
//	    198.51.100.0/24│         │────────────│       │─────────── dest
//	                   └─────────┘ 192.0.2/24 └───────┘  10.20.0/24
//	                                 bridge ├── agent2, .3 ──┤ bridge
//	                                        └── founder, .4 ─┘
const (
	gatewayNear = "198.51.100.1"
	gatewayFar  = "192.0.2.1"
	agentOuter  = "192.0.2.2"
	destAddress = "10.20.0.100"
	innerMTU    = 1438 // what meshcrypt finds on links of 1500 bytes

	modeVeth = "veth"
	modeWire = "wire"
)

// rig is the hosts of one side. Each side has a rig of its own, so that nothing
// one side sets on a host touches the other.
type rig struct {
	*lab.World
	bench                                   *bench
	client, gateway, agent, agent2, founder *lab.Space
	dest, wan, lan                          *lab.Space
	binary                                  string  // of meshcrypt
	agentCPU                                float64 // cores of an agent's host; 0: all
}

// hosts are those with links of their own.
func (r *rig) hosts() []*lab.Space {
	return []*lab.Space{r.client, r.gateway, r.agent, r.agent2, r.founder, r.dest}
}

func (b *bench) newRig(mode string) *rig {
	dir := b.keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "meshcrypt-perf-"); err != nil {
			b.Fatalf("%v", err)
		}
		b.Cleanup(func() { os.RemoveAll(dir) })
	}
	b.worlds++
	name := fmt.Sprint(b.worlds)
	r := &rig{World: lab.New(b, filepath.Join(dir, name)), bench: b, binary: b.binary}
	r.File("x") // makes the directory
	space := func(host string) *lab.Space { return r.Space(host + name) }
	r.wan, r.lan, r.client, r.dest = space("wan"), space("lan"), space("client"), space("dest")
	r.gateway, r.agent, r.agent2, r.founder = space("gateway"), space("agent"), space("agent2"), space("founder")
	for _, s := range []*lab.Space{r.wan, r.lan} {
		s.Sh("ip link add sw0 type bridge forward_delay 0; ip link set sw0 up")
	}
	r.Wire(r.client, "out", r.gateway, "near")
	r.client.Sh("ip address add 198.51.100.10/24 dev out; ip route add default via %s", gatewayNear)
	r.gateway.Sh("ip address add %s/24 dev near; sysctl -qw net.ipv4.ip_forward=1", gatewayNear)
	for i, s := range []*lab.Space{r.gateway, r.agent, r.agent2, r.founder} {
		r.attach(s, "out", r.wan, fmt.Sprintf("192.0.2.%d", i+1))
		r.attach(s, "in", r.lan, fmt.Sprintf("10.20.0.%d", i+1))
		if s != r.gateway {
			s.Sh("ip route add 198.51.100.0/24 via %s", gatewayFar)
		}
	}
	r.attach(r.dest, "in", r.lan, destAddress)
	if mode == modeWire {
		r.wire()
	}
	return r
}

func (r *rig) attach(s *lab.Space, device string, to *lab.Space, address string) {
	r.Wire(s, device, to, s.Name)
	to.Sh("ip link set %s master sw0", s.Name)
	s.Sh("ip address add %s/24 dev %s", address, device)
}

// wire makes every link carry single packets, as behind a real network card: a
// veth pair otherwise hands 64 KB over unsplit and unchecked.
func (r *rig) wire() {
	for _, s := range append(r.hosts(), r.wan, r.lan) {
		s.Sh(`for d in $(ls /sys/class/net); do
			[ $d = lo ] || [ $d = sw0 ] || ethtool -K $d tso off gso off tx-udp-segmentation off gro on
		done`)
		s.Sh(`for d in $(ls /sys/class/net); do
			[ $d = lo ] || [ $d = sw0 ] && continue
			for f in tcp-segmentation-offload:off generic-segmentation-offload:off tx-udp-segmentation:off generic-receive-offload:on; do
				ethtool -k $d | grep -q "${f%%:*}: ${f##*:}" || { echo "$d: not ${f%%:*} ${f##*:}"; exit 1; }
			done
		done`)
	}
}
