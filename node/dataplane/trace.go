package dataplane

// Action is one step of the agent automaton {init, receive, decide, send |
// discard} that every packet goes through.
type Action uint8

// The actions of the automaton.
const (
	ActionReceive Action = iota + 1
	ActionDecide
	ActionSend
	ActionDiscard
)

// String returns the action's name.
func (a Action) String() string {
	names := [...]string{"init", "receive", "decide", "send", "discard"}
	if int(a) >= len(names) {
		return "unknown"
	}
	return names[a]
}

// workerShift leaves the lower bits of a packet id to a worker's own count.
const workerShift = 40

// tracer numbers a worker's packets and tells a test what happens to each. It
// is owned by its worker.
type tracer struct {
	tell             func(id uint64, action Action)
	next             uint64
	waiting, ongoing []uint64
}

func newTracer(worker int, tell func(uint64, Action)) *tracer {
	if tell == nil {
		return nil
	}
	return &tracer{tell: tell, next: uint64(worker) << workerShift}
}

func (t *tracer) take(n int) {
	for range n {
		t.next++
		t.waiting = append(t.waiting, t.next)
		t.tell(t.next, ActionReceive)
	}
}

func (t *tracer) decide(n int) {
	for _, id := range t.waiting[:n] {
		t.tell(id, ActionDecide)
	}
	t.ongoing = append(t.ongoing, t.waiting[:n]...)
	t.waiting = t.waiting[n:]
}

func (t *tracer) leave(n int, last Action) {
	for _, id := range t.ongoing[:n] {
		t.tell(id, last)
	}
	t.ongoing = t.ongoing[n:]
}

// settle decides on the n oldest packets and ends them at once.
func (t *tracer) settle(n int, last Action) {
	for _, id := range t.waiting[:n] {
		t.tell(id, ActionDecide)
		t.tell(id, last)
	}
	t.waiting = t.waiting[n:]
}
