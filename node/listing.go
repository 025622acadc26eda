package node

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// term returns the arbiter served by this process.
func (n *Node) term() (*arbiter.Arbiter, error) {
	if a := n.arbiter.Load(); a != nil {
		return a, nil
	}
	return nil, control.Errorf(control.CodeDegraded, "run the same command again", "no arbiter right now: an election is under way")
}

// report is what the streams of the present term know.
func (n *Node) report(ctx context.Context) (arbiter.Report, error) {
	a, err := n.term()
	if err != nil {
		return arbiter.Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, OperatorWait)
	defer cancel()
	return a.Report(ctx)
}

func (n *Node) listMembers(r *http.Request, _ control.Nothing) (control.Members, error) {
	report, err := n.report(r.Context())
	if err != nil {
		return control.Members{}, err
	}
	voters := make(map[identity.NodeID]bool)
	for _, server := range n.store.Load().Servers() {
		voters[server.ID] = server.Voter
	}
	out := control.Members{Schema: "meshcrypt.members/v1", Members: []control.Member{}}
	err = n.view(func(s *registry.State) {
		carried := slicesByAgent(s)
		for _, node := range s.Members() {
			load, up := report.Load[node.ID]
			out.Members = append(out.Members, control.Member{
				Name: node.Name, ID: node.ID, Index: node.Index, Outer: node.Outer, Other: node.Other, Inside: node.Inside,
				May: node.May.Names(), Is: roleNames(node.Is, voters[node.ID]), State: memberState(node, up, report.Copied[node.ID].IsValid()),
				Arbiter: node.ID == n.trust.Key.ID(), Voter: voters[node.ID], Load: load,
				Slices: carried[node.ID], Capacity: node.Capacity, Violations: violationRows(report, node.ID), Copied: report.Copied[node.ID],
			})
		}
	})
	return out, err
}

// violationRows are what a node flagged to the present arbiter.
func violationRows(report arbiter.Report, node identity.NodeID) (rows []control.Violation) {
	for _, v := range report.Violations[node] {
		rows = append(rows, control.Violation{Reason: v.Reason, Source: v.Source, Count: v.Count, Age: report.At - v.At})
	}
	return rows
}

// roleNames are what a node is. A vote is the Raft configuration's to give, so
// the registry's word on it is passed over.
func roleNames(is registry.Roles, voter bool) []string {
	is &^= registry.RoleVoter
	if voter {
		is |= registry.RoleVoter
	}
	return is.Names()
}

func memberState(node *registry.Node, up, copied bool) string {
	switch {
	case copied:
		return "two-hosts"
	case !up:
		return "silent"
	case node.Drained:
		return "drained"
	default:
		return "up"
	}
}

func slicesByAgent(s *registry.State) map[identity.NodeID]int {
	carried := make(map[identity.NodeID]int)
	for _, live := range s.ActiveSessions() {
		for _, sl := range live.Slices {
			if sl.State == registry.SliceUp {
				carried[sl.Agent]++
			}
		}
	}
	return carried
}

func (n *Node) listSessions(r *http.Request, in control.SessionsRequest) (control.Sessions, error) {
	report, err := n.report(r.Context())
	if err != nil {
		return control.Sessions{}, err
	}
	out := control.Sessions{Schema: "meshcrypt.sessions/v1", Sessions: []control.Session{}}
	err = n.view(func(s *registry.State) {
		for _, live := range s.Sessions.All() {
			ended := live.State == registry.SessionEnded
			if strings.HasPrefix(live.ID.String(), in.ID) && (ended == in.Ended || in.ID != "") {
				out.Sessions = append(out.Sessions, sessionRow(s, live, report))
			}
		}
	})
	slices.SortFunc(out.Sessions, func(x, y control.Session) int {
		return cmp.Or(strings.Compare(x.Client, y.Client), strings.Compare(x.ID, y.ID))
	})
	return out, err
}

func sessionRow(s *registry.State, live *registry.Session, report arbiter.Report) control.Session {
	name := func(id identity.NodeID) string {
		if node := s.Nodes[id]; node != nil {
			return node.Name
		}
		return ""
	}
	row := control.Session{
		ID: live.ID.String(), Client: live.Client, Leases: live.Leases, State: string(live.State), Reason: live.Reason,
		Egress: name(live.Egress), Second: name(live.Second), Mode: string(live.Mode),
		Shares: string(registry.SharesCapacity), SprayUDP: live.SprayUDP,
		Connected: report.Connected[live.ID], Parked: report.Parked[live.ID], Bytes: max(live.Bytes, report.Moved[live.ID]), Slices: []control.Slice{},
		Reach: arbiter.Reach(s, live),
		Age:   time.Duration(s.Tick-live.Opened) * time.Second,
	}
	if len(live.Slices) > 0 {
		row.Suite = esp.Suite(live.Slices[0].Suite).String()
	}
	if live.EqualShares() {
		row.Shares = string(registry.SharesEqual)
	}
	row.Skew = report.Flow[live.ID].Skew
	row.Calmed = calmed(live.Mode, report.Flow[live.ID].SkewTime())
	var up, down uint64
	for _, sl := range live.Slices {
		if live.Bandwidth == 0 && sl.State == registry.SliceVoid {
			continue // vacant: there is no node for it
		}
		u := report.Usage[protocol.SliceRef{Session: live.ID, Number: sl.Number, Epoch: sl.Epoch}]
		up, down = up+u.In, down+u.Out
		row.NotAllowed += u.Refused
		path := report.Paths[protocol.SliceRef{Session: live.ID, Number: sl.Number, Epoch: sl.Epoch}]
		row.Slices = append(row.Slices, control.Slice{
			Number: sl.Number, Epoch: sl.Epoch, Agent: name(sl.Agent), State: string(sl.State), Weight: sl.Weight,
			SPI: fmt.Sprintf("0x%08x", sl.SPI), In: u.In, Out: u.Out, Quiet: u.Quiet,
			Delay: path.Delay, Loss: float64(path.Loss) / 1000, Behind: float64(path.Reordered) / 1000, Direct: path.Direct,
		})
	}
	for i := range row.Slices {
		sl := &row.Slices[i]
		sl.Up, sl.Down, sl.Share = share(sl.In, up), share(sl.Out, down), share(sl.In+sl.Out, up+down)
	}
	return row
}

// calmed says what both ends do about paths that differ too much to spray one
// flow over them; empty when they do nothing.
func calmed(mode registry.Mode, skew time.Duration) string {
	if slicing.Calm(slicing.Burst, skew) == slicing.Burst || mode != registry.ModeBurst && mode != registry.ModeAuto {
		return ""
	}
	return "flowlets in place of spraying"
}

// share is a part of a whole, 0 of nothing.
func share(part, whole uint64) float64 { return float64(part) / float64(max(whole, 1)) }

// findSession resolves a session's id from its first characters.
func (n *Node) findSession(prefix string) (found registry.SessionID, err error) {
	count := 0
	err = n.view(func(s *registry.State) {
		for _, live := range s.ActiveSessions() {
			if prefix != "" && strings.HasPrefix(live.ID.String(), prefix) {
				found = live.ID
				count++
			}
		}
	})
	switch {
	case err != nil:
		return found, err
	case count == 0:
		return found, control.Errorf(control.CodeFailed, "meshcrypt sessions", "no session begins with %q", prefix)
	case count > 1:
		return found, control.Errorf(control.CodeUsage, "give more characters: meshcrypt sessions", "%d sessions begin with %q", count, prefix)
	}
	return found, nil
}

func (n *Node) kick(r *http.Request, in control.KickRequest) (control.Nothing, error) {
	a, err := n.term()
	if err != nil {
		return control.Nothing{}, err
	}
	id, err := n.findSession(in.ID)
	if err != nil {
		return control.Nothing{}, err
	}
	return control.Nothing{}, a.End(r.Context(), id, cmp.Or(in.Reason, "ended by the operator"))
}
