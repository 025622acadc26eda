package lab

import (
	"fmt"
	"time"
)

// networkdPath is where Debian has it; it is in nobody's PATH.
const networkdPath = "/lib/systemd/systemd-networkd"

// Networkd is a systemd-networkd that manages one link of a host, as on a machine
// that has booted with it: its own /run, the user that it becomes, and udev's word
// that every link is there.
type Networkd struct {
	space   *Space
	script  string
	process *Process
}

// Networkd gives a link to systemd-networkd, which makes address and router its own.
func (s *Space) Networkd(device, address, router string) *Networkd {
	s.world.Helper()
	network := fmt.Sprintf("[Match]\nName=%s\n[Network]\nAddress=%s\nGateway=%s\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n", device, address, router)
	n := &Networkd{space: s, script: fmt.Sprintf(`
		mount -t tmpfs tmpfs /run
		mkdir -p /run/network /run/udev/data /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
		touch /run/udev/control
		for i in $(seq 1 64); do echo I:1 > /run/udev/data/n$i; done
		printf 'root:x:0:0::/:/bin/sh\nsystemd-network:x:0:0::/:/bin/false\n' > /run/passwd
		printf 'root:x:0:\nsystemd-network:x:0:\n' > /run/group
		mount --bind /run/passwd /etc/passwd
		mount --bind /run/group /etc/group
		cp %s /run/network/10-managed.network
		mount --bind /run/network /etc/systemd/network
		exec %s`, s.world.Write(network, s.Name, "managed.network"), networkdPath)}
	s.Sh("ip address flush dev %s", device)
	n.start()
	return n
}

func (n *Networkd) start() {
	n.process = n.space.Start("networkd", nil, "sh", "-ec", n.script)
}

// Restart ends it and starts it again.
func (n *Networkd) Restart() {
	n.space.world.Helper()
	if !n.process.Running() {
		n.space.world.Fatalf("systemd-networkd has ended: %s", n.process.Tail(10))
	}
	if !n.process.Terminate(networkdEnds) {
		n.space.world.Fatalf("systemd-networkd does not end: %s", n.process.Tail(10))
	}
	n.start()
}

// networkdEnds is how long it may take to end.
const networkdEnds = 10 * time.Second
