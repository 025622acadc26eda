package sim

import (
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
	"github.com/meshcrypt/meshcrypt/e2e/sim/raftmodel"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// How what a plan says is done. All of it is the driver's.

// follow has everything happen that the plan says, and end.
func (w *World) follow(p plan.Plan) {
	for _, f := range p.Faults {
		if f.Kind == plan.OldDisk {
			w.after(max(f.At-f.Step, 0), func() { w.mesh.members[f.Who.Number].copyDisk() })
		}
		w.after(f.At, func() { w.happen(f) })
	}
}

// happen is one fault, from now until it is over.
func (w *World) happen(f plan.Fault) {
	w.trace.note("plan", "%v", f)
	w.begun(f)
	undo := w.do(f)
	w.blur(f, 1)
	w.after(f.Lasts, func() {
		w.trace.note("plan", "over: %v %v", f.Who, f.Kind)
		undo()
		w.blur(f, -1)
		w.over(f)
	})
}

// begun and over keep count of what is wrong just now.
func (w *World) begun(f plan.Fault) {
	w.wrong, w.changed = append(w.wrong, f), w.now()
	w.watch.judge.Wrong(w.now(), len(w.wrong))
}

func (w *World) over(f plan.Fault) {
	w.wrong = slices.DeleteFunc(w.wrong, func(o plan.Fault) bool { return o == f })
	w.changed = w.now()
	w.watch.judge.Wrong(w.now(), len(w.wrong))
}

// blur tells the judge of faults in which nobody can know at once what is: packets are
// lost or late, or go one way only. Who hears the arbiter and is heard by nobody holds its
// addresses until both ends of the stream have given it up.
func (w *World) blur(f plan.Fault, by int) {
	switch f.Kind {
	case plan.Loss, plan.Delay, plan.Mute, plan.Deafen, plan.PartOneWay:
		w.unclear += by
		w.watch.judge.Lossy(w.now(), w.unclear > 0)
	}
}

// do is one fault; it returns what ends it.
func (w *World) do(f plan.Fault) (undo func()) {
	switch f.Kind {
	case plan.Loss:
		w.net.quality.loss = float64(f.Percent) / 100
		return func() { w.net.quality.loss = 0 }
	case plan.Delay:
		w.net.quality.jitter += f.Step
		return func() { w.net.quality.jitter -= f.Step }
	case plan.Part:
		return w.cut(w.between2(f.Who, f.Other), w.between2(f.Other, f.Who))
	case plan.PartOneWay:
		return w.cut(w.between2(f.Who, f.Other))
	case plan.Isolate:
		return w.cut(append(w.from(f.Who), w.to(f.Who)...)...)
	case plan.Mute:
		return w.cut(w.from(f.Who)...)
	case plan.Deafen:
		return w.cut(w.to(f.Who)...)
	case plan.Restart:
		return w.restart()
	}
	if f.Who.Client {
		return w.mesh.visitors[f.Who.Number].do(f)
	}
	return w.mesh.members[f.Who.Number].do(f)
}

// do is a fault of one node.
func (n *member) do(f plan.Fault) (undo func()) {
	switch f.Kind {
	case plan.Kill, plan.EmptyDisk, plan.OldDisk:
		n.kill(true)
	case plan.PowerOff, plan.LostWrites:
		n.kill(false)
	case plan.Stop:
		n.stop()
		return n.goOn
	case plan.Clock:
		n.setClock(f.Step)
		return func() { n.setClock(0) }
	}
	switch f.Kind {
	case plan.EmptyDisk:
		n.world.cluster.Empty(n.number - 1)
		n.keepsLog = false // it opens none by itself: see consensus.HasLog
	case plan.OldDisk:
		n.putBack()
	case plan.LostWrites:
		n.world.cluster.Lose(n.number-1, f.Writes)
	}
	return n.back
}

// do is a fault of one client.
func (v *visitor) do(f plan.Fault) (undo func()) {
	switch f.Kind {
	case plan.Kill, plan.PowerOff:
		v.host.off = f.Kind == plan.PowerOff
		v.process.kill(!v.host.off)
		return func() {
			v.host.off = false
			if !v.process.alive() { // see comeAgain
				v.connect(f.Who.Number)
			}
		}
	case plan.Stop:
		v.process.stop()
		return v.process.goOn
	case plan.Clock:
		v.setClock(f.Step)
		return func() { v.setClock(0) }
	}
	return func() {}
}

// restart kills all nodes.
func (w *World) restart() (undo func()) {
	for _, n := range w.mesh.members {
		n.kill(true)
	}
	return func() {
		for _, n := range w.mesh.members {
			n.back()
		}
	}
}

// kill ends a node's daemon. Without goodbye it is the host's power that goes.
func (n *member) kill(goodbye bool) {
	if !n.daemon.alive() {
		return
	}
	n.host.off = !goodbye
	n.world.cluster.Crash(n.number - 1)
	n.daemon.kill(goodbye)
	n.world.watch.gone(n)
}

// back starts the daemon again, from its disk.
func (n *member) back() {
	n.host.off = false
	if !n.daemon.alive() {
		n.start(n.keepsLog)
	}
}

// stop is SIGSTOP.
func (n *member) stop() {
	if n.daemon.runs() {
		n.world.cluster.Stop(n.number - 1)
		n.daemon.stop()
		n.world.watch.stopped(n, true)
	}
}

// goOn is SIGCONT.
func (n *member) goOn() {
	if n.daemon.alive() && !n.daemon.runs() {
		n.daemon.goOn()
		n.world.cluster.Continue(n.number - 1)
		n.world.watch.stopped(n, false)
	}
}

// disk is a copy of all that a node's disk holds.
type disk struct {
	log   raftmodel.Image
	fence protocol.Fence
	known *protocol.Known
	keeps bool // a log
}

// copyDisk is a backup.
func (n *member) copyDisk() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.backup = &disk{n.world.cluster.Image(n.number - 1), n.fence, n.known, n.keepsLog}
}

// putBack gives a node that does not run its backup.
func (n *member) putBack() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.world.cluster.PutBack(n.number-1, n.backup.log)
	n.fence, n.known, n.keepsLog = n.backup.fence, n.backup.known, n.backup.keeps
}

// setClock puts a host's wall clock ahead.
func (h *host) setClock(ahead time.Duration) { h.ahead.Store(int64(ahead)) }

// hostOf is a node's or a client's host.
func (w *World) hostOf(who plan.Who) *host {
	if who.Client {
		return w.mesh.visitors[who.Number].host
	}
	return w.mesh.members[who.Number].host
}

func (w *World) between2(from, to plan.Who) way {
	return way{w.hostOf(from).number, w.hostOf(to).number}
}

// from are the ways out of a host.
func (w *World) from(who plan.Who) (all []way) {
	own := w.hostOf(who).number
	for _, h := range w.everyone() {
		if h.number != own {
			all = append(all, way{own, h.number})
		}
	}
	return all
}

// to are the ways to a host.
func (w *World) to(who plan.Who) (all []way) {
	for _, out := range w.from(who) {
		all = append(all, way{out.to, out.from})
	}
	return all
}

// everyone is all hosts.
func (w *World) everyone() (all []*host) {
	for _, n := range w.mesh.members {
		all = append(all, n.host)
	}
	for _, v := range append(slices.Clone(w.mesh.visitors), w.mesh.passer) {
		all = append(all, v.host)
	}
	return all
}

// cut closes ways; undo opens those that nobody else closed.
func (w *World) cut(ways ...way) (undo func()) {
	by := func(n int) {
		w.net.close(ways, n)
		w.tellApart()
	}
	by(1)
	return func() { by(-1) }
}

// tellApart tells the judge who of the nodes do not hear each other. Where one hears the
// other it is told by that one.
func (w *World) tellApart() {
	for i, one := range w.mesh.members {
		for _, other := range w.mesh.members[:i] {
			there, back := way{one.host.number, other.host.number}, way{other.host.number, one.host.number}
			w.watch.judge.Apart(w.now(), one.key.ID(), other.key.ID(), w.net.cut[there] > 0 && w.net.cut[back] > 0)
		}
	}
}

// furthest is how far the log went, by what this node and all that it reaches were told.
func (d *daemon) furthest() (known []consensus.Known) {
	for _, n := range d.world.mesh.members {
		n.mu.Lock()
		k := n.known
		n.mu.Unlock()
		if k != nil && (n == d.member || d.hears(n)) {
			known = append(known, consensus.Known{Incarnation: k.Incarnation, Term: k.Term, Index: k.Index})
		}
	}
	return known
}
