package check

import (
	"fmt"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Picture is what gossip must not change, line by line: what is committed, what agents
// have, who answers for which address.
func (j *Judge) Picture(tables []Table) (lines []string) {
	lines = append(lines, fmt.Sprintf("the log is at %d.%d", j.history.state.Term, j.history.state.Index))
	for _, n := range j.history.state.Nodes {
		lines = append(lines, fmt.Sprintf("node %s may %v, is %v, removed %v", n.Name, n.May, n.Is, n.Removed))
	}
	for id, s := range j.history.state.Sessions.All() {
		lines = append(lines, fmt.Sprintf("session %s of %s is %s", id.Short(), s.Client, s.State))
		lines = append(lines, j.lines(s)...)
	}
	for _, t := range tables {
		for _, h := range t.Holdings {
			lines = append(lines, fmt.Sprintf("%s has keys of %v under fence %s, ending %v", j.name(t.Agent), h.slot(), fence(h.Fence), h.Ends))
		}
	}
	for _, address := range j.addresses {
		lines = append(lines, fmt.Sprintf("%v is held by %s", address, j.names(j.holders[address].holders)))
	}
	slices.Sort(lines)
	return lines
}

func (j *Judge) lines(s *registry.Session) (lines []string) {
	for _, sl := range s.Slices {
		lines = append(lines, fmt.Sprintf("%v is %s at %s, weighs %d", slot{s.ID, sl.Number, sl.Epoch}, sl.State, j.name(sl.Agent), sl.Weight))
	}
	return lines
}

// Gossip holds I9: between the two pictures nothing happened but that gossip was heard.
func (j *Judge) Gossip(at time.Duration, said string, before, after []string) {
	for _, line := range after {
		if !slices.Contains(before, line) {
			j.fail(at, "I9", "gossip alone (%s) made it so that %s", said, line)
		}
	}
	for _, line := range before {
		if !slices.Contains(after, line) {
			j.fail(at, "I9", "gossip alone (%s) ended that %s", said, line)
		}
	}
}
