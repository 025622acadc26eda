package client

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// Transports, as status shows them.
const (
	transportUDP = "udp"
	transportTLS = "tls"
)

// Status asks the loop how the session is now.
func (c *Client) Status(ctx context.Context) (control.ClientStatus, error) {
	q := statusQuestion{make(chan control.ClientStatus, 1)}
	c.must(ctx, q)
	select {
	case s := <-q.answer:
		return s, nil
	case <-ctx.Done():
		return control.ClientStatus{}, ctx.Err()
	}
}

type statusQuestion struct{ answer chan control.ClientStatus }

func (q statusQuestion) apply(c *Client) {
	now := c.config.Now()
	s := control.ClientStatus{
		Problems: []string{}, Slices: []control.ClientSlice{}, Leases: []netip.Addr{},
		Mode: c.spreading.String(), MTU: c.mtu, Source: c.exit.Source,
		Control: c.control != nil, Parked: c.parking.mark != 0, WordAge: now - c.wordAt, Gateways: c.gatewayRows(),
	}
	if c.session != nil {
		s.Session, s.Leases = c.session.welcome.Session.String(), c.session.welcome.Leases
	}
	for _, key := range c.sortedKeys() {
		s.Slices = append(s.Slices, c.slices[key].status(now))
	}
	s.Delivered, s.Dropped = engineCounts(c.config.Engine.Stats())
	c.refusals.addTo(s.Dropped)
	s.Health, s.Problems = "ok", append(s.Problems, c.problems()...)
	if len(s.Problems) > 0 {
		s.Health = "degraded"
	}
	q.answer <- s
}

func (c *Client) gatewayRows() (rows []control.ClientGateway) {
	inUse := c.gateways.at(c.gateways.current)
	for _, address := range c.gateways.list() {
		row := control.ClientGateway{Address: address, InUse: address == inUse}
		row.Control = c.control != nil && c.control.gateway == address
		switch {
		case row.InUse && c.transport.stream != nil:
			row.Transport = transportTLS
		case row.InUse:
			row.Transport = transportUDP
		}
		rows = append(rows, row)
	}
	return rows
}

func (s *slice) status(now time.Duration) control.ClientSlice {
	row := control.ClientSlice{
		Number: s.key.number, Epoch: s.key.epoch, Agent: s.grant.Agent.Short(), State: s.state(), Spare: s.spare,
		Direct: s.direct.way, Weight: s.grant.Weight, RTT: s.pulse.rtt.Smoothed(), Heard: -1, AgentLoad: s.pulse.load.Share(),
	}
	if s.pulse.heardAt != 0 {
		row.Heard = now - s.pulse.heardAt
	}
	if s.sizing.search != nil {
		row.Datagram = s.sizing.search.Size()
	}
	n := s.pair.Counters()
	row.In, row.Out = n.BytesIn, n.BytesOut
	return row
}

func (s *slice) state() string {
	switch {
	case s.retireAt != 0:
		return "ending"
	case !s.confirmed:
		return "keying"
	case s.pulse.lost():
		return "lost"
	case s.condemned:
		return "silent"
	}
	return "up"
}

// problems are what a user should know, the worst first.
func (c *Client) problems() (all []string) {
	switch {
	case c.stranded():
		all = append(all, "this host has no route to the gateway; see `ip route`")
	case c.session == nil:
		all = append(all, "not logged in yet; connecting")
	case !c.any((*slice).proven):
		all = append(all, "no agent is heard, by UDP nor by TLS; is port 6484 open on the way?")
	}
	for _, key := range c.sortedKeys() {
		if s := c.slices[key]; s.state() == "lost" {
			all = append(all, fmt.Sprintf("agent %s says that nothing goes on from it to the inside network; see `meshcrypt status` there", s.grant.Agent.Short()))
		}
	}
	if c.session != nil && c.control == nil && c.parking.mark == 0 {
		all = append(all, "no arbiter is heard; the session runs on, and the client keeps trying")
	}
	return all
}

// engineCounts names what the packet path delivered and dropped.
func engineCounts(s dataplane.Stats) (delivered, dropped map[string]uint64) {
	delivered, dropped = make(map[string]uint64), make(map[string]uint64)
	for p, n := range s.Delivered {
		delivered[dataplane.Port(p).String()] = n
	}
	for _, reason := range dataplane.Reasons() {
		if n := s.Dropped[reason]; n > 0 {
			dropped[reason.String()] = n
		}
	}
	if s.Lost > 0 { // not from a gateway, stale, or there was no room
		dropped["kernel"] = s.Lost
	}
	return delivered, dropped
}
