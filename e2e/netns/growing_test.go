//go:build e2e

package netns

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
)

// growing is the world of some rows of the matrix: a mesh that gets more nodes,
// and a client that comes again over a link of another MTU.
type growing struct {
	*mesh
	running     int                 // nodes
	agents, mtu int                 // of the client that runs; 0: none
	webs        map[string]*lab.Web // by host
	upload      string
}

// newGrowing founds a mesh for the families and the egress kind of a row. A
// node has one inside address, so the final mile decides the inside's family.
func newGrowing(t *testing.T, r row) *growing {
	t.Helper()
	p := plan{outside: r.outer, inside: dualStack}
	if r.egress == local {
		p.inside = r.inner
	}
	m := newMeshOf(t, nodesFor(axisAgents[len(axisAgents)-1]), p)
	m.jumbo()
	if r.egress == masquerading {
		m.masquerade()
	}
	m.watch("client")
	m.found()
	return &growing{mesh: m, running: 1, webs: make(map[string]*lab.Web), upload: m.content()}
}

// nodesFor is how many nodes give a session so many agents: from the third on,
// the arbiter's own keeps out of it.
func nodesFor(agents int) int {
	if agents == 1 {
		return 1
	}
	return agents + 1
}

// content is a file of what the web server would send.
func (m *mesh) content() (path string) {
	m.Helper()
	path = m.File("upload")
	content, err := io.ReadAll(lab.Content(webBytes))
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		m.Fatalf("%v", err)
	}
	return path
}

// become brings the world to a row; the inner family is the traffic's matter.
func (g *growing) become(r row) {
	g.Helper()
	for ; g.running < nodesFor(r.agents); g.running++ {
		g.nodes[g.running].join(g.nodes[0])
		g.ready(g.running + 1)
	}
	if g.agents == r.agents && g.mtu == r.mtu {
		return
	}
	if g.agents != 0 {
		g.disconnect()
	}
	g.agents, g.mtu = r.agents, r.mtu
	g.access(g.client, r.mtu)
	// Hosts remember for ten minutes what they were told of a path.
	g.dest.Sh("ip -4 route flush cache; ip -6 route flush cache")
	g.connect("--slice-mode", "burst")
	g.slices(r.agents)
	g.tunnelMTU(max(pmtu.MinMTU, pmtu.Inner(r.mtu, r.outer == ipv6)), 10*time.Second)
}

// crossing is the way of a row's traffic, to the destination or to the host of
// the session's first agent.
func (g *growing) crossing(r row) crossing {
	g.Helper()
	server, address := g.dest, pick(r.inner, destination, destination6)
	if r.egress == local {
		agent := g.node(g.slices(r.agents).Slices[0].Agent)
		server, address = agent.Space, agent.inside
	}
	return crossing{
		client: g.client.Space, address: address, web: g.serve(server),
		upload: g.upload, page: g.File("page"),
	}
}

// serve starts what the traffic talks to, once on a host.
func (g *growing) serve(s *lab.Space) *lab.Web {
	g.Helper()
	if g.webs[s.Name] == nil {
		s.ServeIperf()
		g.webs[s.Name] = s.ServeWeb()
	}
	return g.webs[s.Name]
}
