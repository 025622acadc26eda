// Package search finds the arbiter: from what a node knows of its mesh it makes the order
// in which others are asked, asks them, and follows where they point.
//
// It owns that order and what is made of an answer. It keeps nothing between two searches:
// where the arbiter was found last is the caller's to remember (node), as are the dialling
// and what a stream carries (node/agent). So the simulation searches as a real node does.
package search

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// ErrNoArbiter says that a search led nowhere.
var ErrNoArbiter = errors.New("search: no member led to an arbiter")

// Asker is a node that searches, and what it knows.
type Asker struct {
	Trust   *trust.Trust
	Outers  []netip.AddrPort                         // its own; it asks itself at the first
	Leader  func() (id identity.NodeID, ok bool)     // by its own log
	Last    func() (identity.NodeID, netip.AddrPort) // where the arbiter was, or is said to be
	Members func() []protocol.NodeRow                // as last heard
	Dial    func(context.Context, netip.AddrPort, *tls.Config) (*tls.Conn, error)
}

// Found is a stream to the arbiter, and where it leads.
type Found struct {
	agent.Stream
	Node identity.NodeID
	At   netip.AddrPort
}

// Stream opens a stream to the present arbiter: where the asker's own log says, where the
// last one was, then whoever may know. A host without power takes all of Within, and
// meanwhile a new arbiter waits for this node, so nobody waits behind it for longer than
// Stagger.
func (a Asker) Stream(ctx context.Context) (Found, error) {
	to, err := loop.Race(ctx, a.Candidates(), MaxCandidates, Stagger, a.dial, func(f Found) { f.Close() })
	switch {
	case err != nil:
		return Found{}, errors.Join(ErrNoArbiter, err)
	case ctx.Err() != nil: // this node has heard of another one
		to.Close()
		return Found{}, ctx.Err()
	}
	return to, nil
}

// Candidates are whom the asker asks, in this order, some of them more than once.
func (a Asker) Candidates() (all []netip.AddrPort) {
	members := a.Members()
	if id, ok := a.Leader(); ok {
		all = append(all, a.at(id, members)...)
	}
	_, last := a.Last()
	all = append(all, last)
	for _, voters := range []bool{true, false} {
		for _, row := range members {
			if row.Voter == voters && row.ID != a.id() {
				all = append(all, a.reach(row)...)
			}
		}
	}
	return valid(all)
}

// at is where a member is reached, this node too.
func (a Asker) at(id identity.NodeID, members []protocol.NodeRow) []netip.AddrPort {
	if id == a.id() {
		return a.Outers[:1]
	}
	return a.reach(find(id, members))
}

func (a Asker) id() identity.NodeID { return a.Trust.Key.ID() }

func (a Asker) reach(row protocol.NodeRow) []netip.AddrPort { return row.ReachedFrom(a.Outers) }

func find(id identity.NodeID, members []protocol.NodeRow) protocol.NodeRow {
	if i := slices.IndexFunc(members, func(r protocol.NodeRow) bool { return r.ID == id }); i >= 0 {
		return members[i]
	}
	return protocol.NodeRow{}
}

func valid(all []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(all, func(at netip.AddrPort) bool { return !at.IsValid() })
}

// dial opens a stream at one address. A node that says of itself that it leads, and is not
// the arbiter yet, has to open its doors first, some milliseconds after its election: it is
// asked again, for the search asks nobody twice and waits for hosts without power.
func (a Asker) dial(ctx context.Context, at netip.AddrPort) (to Found, redirect []netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeout(ctx, Within)
	defer cancel()
	for wait := OpeningMin; ; wait *= 2 {
		var opens bool
		if to, redirect, opens, err = a.ask(ctx, at); !opens {
			return to, redirect, err
		}
		select {
		case <-ctx.Done():
			return to, redirect, err
		case <-time.After(wait):
		}
	}
}

// ask is one connection. A node that is not the arbiter answers with a redirect, and with
// nothing else that would be believed; to itself, if it opens its doors just now.
func (a Asker) ask(ctx context.Context, at netip.AddrPort) (to Found, redirect []netip.AddrPort, opens bool, err error) {
	var peer pki.Peer
	raw, err := a.Dial(ctx, at, a.Trust.ToArbiter(port.ALPNStream, &peer))
	if err != nil {
		return to, nil, false, fmt.Errorf("%s: %w", at, err)
	}
	s := loop.New(raw, protocol.NewStream, loop.Nodes(), agent.MaxOutbox)
	if peer.Has(pki.RoleArbiter) {
		return Found{agent.Stream{Stream: s, Arbiter: peer.Key}, peer.Node, at}, nil, false, nil
	}
	defer s.Close()
	s.Within(Within)
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	m, err := s.Read()
	if err == nil && m.Redirect != nil {
		opens = m.Redirect.Node == peer.Node
		redirect = a.reach(protocol.NodeRow{Outer: m.Redirect.Outer, Other: m.Redirect.Other})
	}
	return to, valid(redirect), opens, fmt.Errorf("%s: %w", at, trust.ErrNotArbiter)
}

// Redirect is what others are told who ask this node: the arbiter as it knows it. Where
// that was reached says little to an asker of another family.
func (a Asker) Redirect() *protocol.Redirect {
	node, outer := a.Last()
	if id, ok := a.Leader(); ok {
		node = id
	}
	if row := find(node, a.Members()); row.Index != 0 {
		return &protocol.Redirect{Node: node, Outer: row.Outer, Other: row.Other}
	}
	return &protocol.Redirect{Node: node, Outer: outer}
}
