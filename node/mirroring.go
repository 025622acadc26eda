package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/conntrack"
	"github.com/meshcrypt/meshcrypt/node/mirror"
	"github.com/meshcrypt/meshcrypt/node/port"
)

// newCopier is this node as the second of others.
func (n *Node) newCopier() *mirror.Copier {
	return mirror.NewCopier(mirror.Config{Dial: n.dialFlows, Open: openFlows, Now: time.Now, Log: n.config.Log})
}

func openFlows() (mirror.Kernel, error) { return conntrack.Open() }

func listenFlows(prefixes []netip.Prefix) (mirror.Events, error) { return conntrack.Listen(prefixes) }

// dialFlows connects to an egress, and to nobody who answers in its place.
func (n *Node) dialFlows(ctx context.Context, egress identity.NodeID) (net.Conn, error) {
	row := n.members.find(egress)
	if row.Index == 0 {
		return nil, fmt.Errorf("node: no address is known for egress %s", egress.Short())
	}
	return n.dialTLS(ctx, n.reach(row)[0], port.SayBeats(n.trust.ToNode(port.ALPNFlows, egress)))
}

// follow passes the agent's word on to the copier.
func (n *Node) follow(behind map[identity.NodeID][]registry.Part) {
	if n.self.Userspace {
		return // what a kernel has under way cannot go on in this process
	}
	wanted := make(map[identity.NodeID][]mirror.Part, len(behind))
	for egress, parts := range behind {
		for _, p := range parts {
			for _, r := range p.Ranges() {
				if r.Inside.IsValid() {
					wanted[egress] = append(wanted[egress], mirror.Part{Prefix: r.Prefix, Inside: r.Inside})
				}
			}
		}
	}
	n.copier.Follow(wanted)
}

// serveFlows is this node as an egress: members may ask for its masqueraded
// flows, and whoever is its second gets them.
func (n *Node) serveFlows(ctx context.Context) {
	if n.self.Egress != registry.EgressMasquerade || n.self.Userspace {
		return
	}
	source := mirror.Source{Open: openFlows, Listen: listenFlows, Now: time.Now}
	check := func(raw [][]byte) error {
		_, err := n.trust.Member(raw, func(id identity.NodeID) bool { return n.members.find(id).Index != 0 })
		return err
	}
	n.port.Handle(port.ALPNFlows, pki.Server(port.ALPNFlows, n.trust.Certificate, check), func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		peer, err := pki.VerifyNodeKey([][]byte{conn.ConnectionState().PeerCertificates[0].Raw}, n.trust.CA, n.trust.Cluster)
		if err == nil {
			err = source.Serve(ctx, conn, port.HearsBeats(conn), func(prefixes []netip.Prefix) bool { return n.agent.Feeds(ctx, peer.Node, prefixes) })
		}
		n.config.Log.Debug("stream of flows ended", "second", peer.Node.Short(), "error", err)
	})
}
