// Package automaton is the patent's model of an agent as an executable table:
// the input/output automaton of figure 3, and the restrictions of figures 13
// and 14 under which several of them compose into one. Tests record what the
// packet engine does as a trace of actions per packet, and a Checker says
// whether that trace is an execution.
//
// It owns the table and the check. It does not process packets and is on no
// packet path.
package automaton

import "fmt"

// Action is one step of the automaton.
type Action uint8

// The actions. Their classes are in Class.
const (
	Init    Action = iota + 1 // the packet arrives at the agent
	Receive                   // it is put on the agent's stack
	Decide                    // it is opened, or found bad
	Send                      // the opened packet leaves
	Discard                   // the bad packet is dropped, silently
)

// Class says where an action belongs in the signature of the automaton.
type Class uint8

// The three disjoint parts of the signature.
const (
	Input Class = iota + 1
	Internal
	Output
)

// State is where one packet stands inside one agent.
type State uint8

// The states. Quiescent is the only start state and the only end.
const (
	Quiescent State = iota // λ: no such packet
	Arrived                // initialised, not yet on the stack
	Held                   // ciphertext on the stack: val(j) = v
	Opened                 // decided: val(j) = f(v)
	Null                   // decided: val(j) = null
)

// Transition is one element (s, π, s') of trans(A).
type Transition struct {
	From   State
	Action Action
	To     State
}

// Transitions returns trans(A), whole. Decide is the one action with two
// outcomes; every other pair of state and action has at most one.
func Transitions() []Transition {
	return []Transition{
		{Quiescent, Init, Arrived},
		{Arrived, Receive, Held},
		{Held, Decide, Opened},
		{Held, Decide, Null},
		{Opened, Send, Quiescent},
		{Null, Discard, Quiescent},
	}
}

// Class returns the part of the signature an action is in.
func (a Action) Class() Class {
	switch a {
	case Init, Receive:
		return Input
	case Decide:
		return Internal
	case Send, Discard:
		return Output
	}
	return 0
}

// String returns the patent's word.
func (a Action) String() string {
	switch a {
	case Init:
		return "init"
	case Receive:
		return "receive"
	case Decide:
		return "decide"
	case Send:
		return "send"
	case Discard:
		return "discard"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// String names the state as the patent's packetval vector does.
func (s State) String() string {
	switch s {
	case Quiescent:
		return "quiescent"
	case Arrived:
		return "arrived"
	case Held:
		return "held"
	case Opened:
		return "opened"
	case Null:
		return "null"
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// next is the state after an action; null is the outcome of a Decide.
func next(s State, a Action, null bool) (State, bool) {
	for _, t := range Transitions() {
		if t.From == s && t.Action == a && (a != Decide || (t.To == Null) == null) {
			return t.To, true
		}
	}
	return s, false
}
