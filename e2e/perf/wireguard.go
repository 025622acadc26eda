package main

import (
	"os"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// startWireguard puts a tunnel between client and agent; the gateway routes.
func (r *rig) startWireguard() {
	server, client := r.wireguard(r.agent, "10.99.0.1"), r.wireguard(r.client, "10.99.0.2")
	r.agent.Sh("wg set %s listen-port 51820 private-key %s peer %s allowed-ips 10.99.0.2/32", server.device, server.file, client.public)
	r.client.Sh("wg set %s private-key %s peer %s allowed-ips 10.99.0.1/32,10.20.0.0/24 endpoint %s:51820",
		client.device, client.file, server.public, agentOuter)
	r.agent.Sh("sysctl -qw net.ipv4.ip_forward=1")
	r.dest.Sh("ip route add 10.99.0.0/24 via 10.20.0.2")
	r.client.Sh("ip route add 10.20.0.0/24 dev %s", client.device)
}

// wireguardEnd is one end of the tunnel.
type wireguardEnd struct{ device, file, public string }

// wireguard starts the program on a host and makes its key. All hosts share one
// directory of control sockets, which are named after the devices.
func (r *rig) wireguard(s *lab.Space, address string) wireguardEnd {
	device := "wg" + s.Name
	s.Start("wireguard-"+s.Name, []string{"LOG_LEVEL=error"}, r.bench.peer, "-f", device)
	r.Until("wireguard-go on "+s.Name, 10*time.Second, func() error {
		_, err := os.Stat("/run/wireguard/" + device + ".sock")
		return err
	})
	key := r.Write(s.Sh("wg genkey")+"\n", device+".key")
	public := s.Sh("wg pubkey < %s", key)
	s.Sh("ip address add %s/24 dev %s; ip link set %s mtu %d up", address, device, device, innerMTU)
	return wireguardEnd{device, key, public}
}
