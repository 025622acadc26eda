package check

import (
	"bytes"
	"maps"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// history is what was committed, applied once more.
type history struct {
	state    *registry.State
	mark     registry.Mark
	commands map[uint64]committed // by index
}

// committed is one entry, and who applied it first.
type committed struct {
	term    uint64
	command []byte
	by      identity.NodeID
}

// owner is who was granted one epoch of a slice.
type owner struct {
	agent identity.NodeID
	boot  identity.BootID
	index uint64
	term  uint64
	at    time.Duration
}

func newHistory() history {
	state := registry.New()
	state.Feed = &registry.Feed{}
	return history{state: state, commands: make(map[uint64]committed)}
}

// Entry is a command that a replica applied. All apply the same at one index; the first
// one is history.
func (j *Judge) Entry(at time.Duration, by identity.NodeID, index, term uint64, command []byte) {
	h := &j.history
	if was, known := h.commands[index]; known {
		if !j.config.Beyond && (was.term != term || !bytes.Equal(was.command, command)) {
			j.fail(at, "one history", "%s applied another command at index %d (term %d) than %s had (term %d)",
				j.name(by), index, term, j.name(was.by), was.term)
		}
		return
	}
	if index <= h.state.Index {
		return // only a snapshot had it
	}
	h.commands[index] = committed{term, command, by}
	c, err := registry.DecodeCommand(command)
	if err != nil {
		j.fail(at, "one history", "%s applied what is no command at index %d: %v", j.name(by), index, err)
		return
	}
	j.lookAtResumption(at, c)
	registry.Apply(h.state, index, term, c)
	j.lookAtParts(at, c)
	j.look(at, c)
}

// Recovered says that an operator made one node's log that of the mesh, which goes on from
// that state. It is another history: entries behind it come again. Nobody is admitted by it
// whom the old one refuses.
func (j *Judge) Recovered(at time.Duration, state *registry.State) {
	h := &j.history
	was := h.state
	if state.Cluster.Incarnation <= was.Cluster.Incarnation {
		j.fail(at, "recover", "the mesh goes on in incarnation %d, and was in %d", state.Cluster.Incarnation, was.Cluster.Incarnation)
	}
	for name, c := range was.Clients.All() {
		if now := state.Clients.Get(name); c.Revoked && (now == nil || !now.Revoked) {
			j.fail(at, "recover", "%s was revoked, and is not any more", name)
		}
	}
	maps.DeleteFunc(h.commands, func(index uint64, _ committed) bool { return index > state.Index })
	j.former = make(map[slot]identity.NodeID)
	maps.DeleteFunc(j.owned, func(key slot, o owner) bool {
		if o.index > state.Index {
			j.former[key] = o.agent
		}
		return o.index > state.Index
	})
	h.state, h.mark = state.Clone(), registry.Mark{}
	h.state.Feed = &registry.Feed{}
}

// look at what an entry changed.
func (j *Judge) look(at time.Duration, c registry.Command) {
	h := &j.history
	touched, mark := h.state.Touched(h.mark)
	h.mark = mark
	ids := touched.Sessions
	if touched.All {
		for id := range h.state.Sessions.IDs() {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		s, ok := h.state.Sessions.Find(id)
		if !ok {
			continue
		}
		j.lookAtOwners(at, s)
		j.lookAtEnd(at, s, c)
	}
}

// Serves says that a node serves a term as arbiter: at which index that began, and up to
// where it has applied the log. What its predecessors were told is true for it (design 9).
func (j *Judge) Serves(at time.Duration, node identity.NodeID, term, first, applied uint64) {
	if applied < first {
		j.fail(at, "a term", "%s serves term %d, which begins at %d, and has applied the log up to %d", j.name(node), term, first, applied)
	}
}

// Registry lends what was committed, for reading.
func (j *Judge) Registry() *registry.State { return j.history.state }
