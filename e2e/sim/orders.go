package sim

import (
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Orders: what operators have committed, and what an agent says that lies. All of it is the
// driver's.

// Times of an order.
const (
	orderAgain = 500 * time.Millisecond // until an operator tries again
	backAfter  = 500 * time.Millisecond // until somebody comes again who was thrown out
	inAfter    = 3 * time.Second        // that, until he is in and has all that he is to have
	lieEvery   = 300 * time.Millisecond
)

// orders are those that are under way.
type orders struct {
	given   byte
	awaited map[registry.CommandID]func() // what follows the commit
}

// obey has everything happen that a plan orders.
func (w *World) obey(p plan.Plan) {
	for _, o := range p.Orders {
		w.after(o.At, func() {
			w.trace.note("plan", "%v", o)
			if o.Kind == plan.Lie {
				w.mesh.members[o.Who.Number].lie(w.now() + o.Lasts)
				return
			}
			w.throwOut(w.mesh.visitors[o.Who.Number], o)
		})
	}
}

// throwOut has a client's session ended, which comes again then.
func (w *World) throwOut(v *visitor, o plan.Fault) {
	again := func() { v.comeAgain(o.Who.Number) }
	if o.Kind == plan.Revoke {
		w.order(registry.Command{RevokeClient: &registry.RevokeClient{Name: v.name}}, func() {
			v.out++
			w.after(o.Lasts, func() { w.order(v.account(), func() { v.out--; again() }) })
		})
		return
	}
	s := w.watch.sessionOf(v)
	if s == nil {
		return
	}
	w.order(registry.Command{EndSession: &registry.EndSession{Session: s.ID, Reason: "kicked"}}, func() {
		again()
		if late := w.now() > o.End(); o.Kind == plan.KickUnsaid && !late {
			w.killLeader(o.Lasts)
		}
	})
}

// killLeader has nobody hear what was just committed by who committed it.
func (w *World) killLeader(lasts time.Duration) {
	if d := w.watch.leader(); d != nil {
		w.happen(plan.Fault{Kind: plan.Kill, Who: plan.Who{Number: d.number - 1}, At: w.now(), Lasts: lasts})
	}
}

// order is a command of an operator, who gives it again until it is committed.
func (w *World) order(c registry.Command, then func()) {
	w.orders.given++
	c.ID = registry.CommandID{15: w.orders.given}
	w.orders.awaited[c.ID] = then
	w.urge(c)
}

func (w *World) urge(c registry.Command) {
	if w.orders.awaited[c.ID] == nil {
		return
	}
	if d := w.watch.leader(); d != nil {
		d.replica.Load().ProposeThen(c, func(registry.Result, error) {})
	}
	w.after(orderAgain, func() { w.urge(c) })
}

// ordered tells the judge which sessions an order ends, before it hears of it.
func (w *watch) ordered(c registry.Command) {
	if w.orders.awaited[c.ID] == nil {
		return
	}
	switch {
	case c.EndSession != nil:
		w.judge.Ordered(c.EndSession.Session, c.EndSession.Reason)
	case c.RevokeClient != nil:
		for s := range w.judge.Registry().Living(c.RevokeClient.Name) {
			w.judge.Ordered(s.ID, registry.ReasonRevoked)
		}
	}
}

// obeyed does what follows an order that was committed.
func (w *watch) obeyed(c registry.Command) {
	if then := w.orders.awaited[c.ID]; then != nil {
		delete(w.orders.awaited, c.ID)
		then()
	}
}

// comeAgain has a client whose session was ended log in anew, once it knows: how long that
// takes is another judge's.
func (v *visitor) comeAgain(first int) {
	w, p, ended := v.world, v.process, v.ended
	v.out++
	go func() {
		<-ended
		w.leave(v.name, func() {
			if p.alive() {
				p.kill(true)
			}
			w.after(backAfter, func() {
				if v.process == p && !v.host.off && !w.killed {
					v.connect(first)
				}
				w.after(inAfter, func() { v.out-- })
			})
		})
	}()
}

// staying are the clients that nobody has thrown out.
func (w *World) staying() (all []*visitor) {
	for _, v := range w.mesh.visitors {
		if v.out == 0 {
			all = append(all, v)
		}
	}
	return all
}

// lie has an agent say, until that time, of all clients whose slices it has and of others that
// they are parked under a mark that is none, or that they are not.
func (n *member) lie(until time.Duration) {
	w, d := n.world, n.daemon
	if w.now() > until {
		return
	}
	w.after(lieEvery, func() { n.lie(until) })
	stream := d.link.open()
	if stream == nil || !d.runs() {
		return
	}
	lies := &protocol.Usage{Changes: true}
	for _, v := range w.mesh.visitors {
		s := w.watch.sessionOf(v)
		if s == nil {
			continue
		}
		for _, sl := range slices.Concat(s.Slices, s.Retiring) {
			lies.Slices = append(lies.Slices, protocol.SliceUsage{
				Slice:  protocol.SliceRef{Session: s.ID, Number: sl.Number, Epoch: sl.Epoch},
				Parked: uint64(w.random.IntN(3)),
			})
		}
	}
	stream.Say(&protocol.Node{Usage: lies})
}
