package raftmodel

import (
	"fmt"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Rewrite makes a server that does not run the only one of its own log, as
// consensus.Rewrite does when the majority is lost: whatever it holds, committed or not,
// counts as committed, and change makes of it what it goes on from.
func (c *Cluster) Rewrite(server int, change func(*registry.State)) {
	c.turn(func() {
		if c.running[server] != nil {
			panic("raftmodel: the log of a server that runs was rewritten")
		}
		d := c.disks[server]
		state, end := d.held(), d.end()
		change(state)
		term := d.term + consensus.TermsGivenUp
		alone := []consensus.Server{{ID: c.config.Servers[server], Voter: true}}
		by := c.chance(server).Uint64() // a leadership that nobody had
		d.write(func(i *Image) {
			*i = Image{term: term, votedFor: nobody, snapshot: snapshot{
				place: place{end.index, term, by}, servers: alone, serversAt: end.index, state: state,
			}}
		})
		c.say(server, fmt.Sprintf("goes on alone from %d.%d", term, end.index))
	})
}

// held is the state by all that a disk has.
func (i *Image) held() *registry.State {
	state := registry.New()
	if i.snapshot.state != nil {
		state = i.snapshot.state.Clone()
	}
	for _, e := range i.entries {
		if c, err := registry.DecodeCommand(e.data); e.kind == command && e.index > i.snapshot.index && err == nil {
			registry.Apply(state, e.index, e.term, c)
		}
	}
	return state
}
