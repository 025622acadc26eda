package automaton

import (
	"errors"
	"fmt"
	"slices"
)

// Why a trace is not an execution.
var (
	ErrTransition = errors.New("automaton: no such transition")
	ErrSelf       = errors.New("automaton: an agent is its own sender or receiver")
	ErrPending    = errors.New("automaton: packet neither sent nor discarded")
	ErrFeedback   = errors.New("automaton: output of one agent is the input of another")
	ErrCount      = errors.New("automaton: number of agents outside 1..limit")
	ErrAgent      = errors.New("automaton: no such agent")
	ErrHeld       = errors.New("automaton: too many packets at a time")
	ErrSent       = errors.New("automaton: trace too long")
)

// Event is one action on one packet. Packet names the packet for the length
// of the trace: what the engine has in common between the steps, such as SPI
// and counter. Peer is j of receive(v)ij and k of send(v)ik.
type Event struct {
	Action Action
	Packet uint64
	Peer   int
	Null   bool // of Decide: the packet is bad
}

// Checker follows one agent's trace. Steps of different packets may
// interleave in any way; an agent takes new input while others wait.
type Checker struct {
	agent int
	state map[uint64]State // packets that are not quiescent
}

// NewChecker follows agent number i.
func NewChecker(agent int) *Checker {
	return &Checker{agent: agent, state: map[uint64]State{}}
}

// Observe takes the next event, or says why the trace is not an execution;
// after an error the checker stands where it stood before.
func (c *Checker) Observe(e Event) error {
	if (e.Action == Receive || e.Action == Send) && e.Peer == c.agent {
		return fmt.Errorf("%w: %v of packet %d at agent %d", ErrSelf, e.Action, e.Packet, c.agent)
	}
	from := c.state[e.Packet]
	to, ok := next(from, e.Action, e.Null)
	if !ok {
		return fmt.Errorf("%w: %v of packet %d, which is %v at agent %d", ErrTransition, e.Action, e.Packet, from, c.agent)
	}
	switch {
	case to == Quiescent:
		delete(c.state, e.Packet)
	case from == Quiescent && len(c.state) == MaxHeld:
		return ErrHeld
	default:
		c.state[e.Packet] = to
	}
	return nil
}

// Quiet reports whether every packet that came in was sent or discarded.
func (c *Checker) Quiet() error {
	if len(c.state) == 0 {
		return nil
	}
	packets := make([]uint64, 0, len(c.state))
	for p := range c.state {
		packets = append(packets, p)
	}
	first := slices.Min(packets)
	return fmt.Errorf("%w: %d at agent %d, the first %d, %v", ErrPending, len(packets), c.agent, first, c.state[first])
}

// Check says whether a whole trace of one agent is an execution that ends quiescent.
func Check(agent int, trace []Event) error {
	c := NewChecker(agent)
	for i, e := range trace {
		if err := c.Observe(e); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
	}
	return c.Quiet()
}

// Composition is the automaton made of n automata (figure 14). It holds the
// restrictions of figure 13: agents are independent (each has a Checker of its
// own that no other agent's event touches), no output of an agent is an input
// of another (hand-on of an opened packet is not: there the receiver is an end
// host, and no action of the automaton), and their number is finite.
type Composition struct {
	agents []*Checker
	sender map[uint64]int // packets in the clear → the agent that sent them
}

// Compose makes the composition of agents 0..n-1; at least one, at most limit.
func Compose(n, limit int) (*Composition, error) {
	if n < 1 || n > limit {
		return nil, fmt.Errorf("%w: %d of %d", ErrCount, n, limit)
	}
	c := &Composition{sender: map[uint64]int{}}
	for i := range n {
		c.agents = append(c.agents, NewChecker(i))
	}
	return c, nil
}

// Observe takes the next event of one agent. A packet keeps its name across
// agents, so that an agent that is fed another's output is found.
func (c *Composition) Observe(agent int, e Event) error {
	if agent < 0 || agent >= len(c.agents) {
		return fmt.Errorf("%w: %d", ErrAgent, agent)
	}
	if by, sent := c.sender[e.Packet]; sent && by != agent && e.Action == Receive {
		return fmt.Errorf("%w: packet %d of agent %d at agent %d", ErrFeedback, e.Packet, by, agent)
	}
	if err := c.agents[agent].Observe(e); err != nil {
		return err
	}
	if e.Action == Send {
		if len(c.sender) == MaxSent {
			return ErrSent
		}
		c.sender[e.Packet] = agent
	}
	return nil
}

// Quiet reports whether every agent is quiescent.
func (c *Composition) Quiet() error {
	for _, agent := range c.agents {
		if err := agent.Quiet(); err != nil {
			return err
		}
	}
	return nil
}
