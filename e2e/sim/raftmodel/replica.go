package raftmodel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// role is what a replica does in its term.
type role int

const (
	follower role = iota
	candidate
	leader
	over // was removed while it led, as raft's ShutdownOnRemove has it
)

// nobody is no server.
const nobody = -1

// Replica is one process's replica. All but the state is guarded by the cluster's lock.
type Replica struct {
	cluster *Cluster
	number  int
	disk    *disk
	random  *rand.Rand
	floor   floor

	ended   bool
	stopped bool
	timers  []func() // that fired while it stood still
	mail    []func() // that came meanwhile

	role      role
	era       uint64 // grows with every change of role: what belongs to an older one is void
	leader    int    // nobody: not known
	heard     time.Duration
	ails      bool // its log is behind or forked
	patient   bool // does not stand
	commit    uint64
	applied   uint64
	took      taken
	servers   []consensus.Server // the newest configuration
	serversAt uint64

	campaign  campaign
	reign     reign
	asked     []question
	questions uint64 // ever

	leadership chan consensus.Leadership // one slot: the newest view
	told       consensus.Leadership
	changes    chan struct{} // one slot
	failed     chan error

	view  sync.RWMutex // protects the state; taken last
	state *registry.State
}

func newReplica(c *Cluster, server int) *Replica {
	state := registry.New()
	state.Feed = &registry.Feed{}
	return &Replica{
		cluster: c, number: server, disk: c.disks[server], random: c.chance(server), leader: nobody,
		leadership: make(chan consensus.Leadership, 1), changes: make(chan struct{}, 1), failed: make(chan error, 1),
		state: state,
	}
}

// open reads the disk, and begins as a follower.
func (r *Replica) open(known []consensus.Known) {
	r.servers, r.serversAt = r.disk.configuration()
	if r.disk.snapshot.state != nil {
		r.install(r.disk.snapshot)
	}
	for _, k := range append([]consensus.Known{r.disk.kept}, known...) {
		r.floor.learn(k)
	}
	r.say("opens at %d.%d", r.disk.end().term, r.disk.end().index)
	r.heard = r.now()
	r.patient = r.behind() // until it has looked who else votes
	r.follow()
	r.tendPatience()
	r.tend()
}

// install makes a snapshot the state.
func (r *Replica) install(s snapshot) {
	r.view.Lock()
	defer r.view.Unlock()
	feed := r.state.Feed
	r.state = s.state.Clone()
	r.state.Feed = feed
	feed.Replaced()
	r.commit, r.applied = s.index, s.index
}

// end is the process's.
func (r *Replica) end(how string) {
	r.say("%s", how)
	r.drop(consensus.ErrClosed)
	for _, q := range r.asked {
		r.cluster.effect(func() { q.done(consensus.ErrClosed) })
	}
	r.asked, r.ended = nil, true
	r.era++
	r.cluster.running[r.number] = nil
}

// goOn takes what waited.
func (r *Replica) goOn() {
	first, then := r.mail, r.timers
	if r.random.IntN(2) == 0 {
		first, then = then, first
	}
	r.mail, r.timers, r.stopped = nil, nil, false
	for _, do := range slices.Concat(first, then) {
		if !r.ended {
			do()
		}
	}
}

// run does something in the replica's process, if that is there, or once it goes on.
func (r *Replica) run(do func()) {
	switch {
	case r.ended:
	case r.stopped:
		r.mail = append(r.mail, do)
	default:
		do()
	}
}

// after does something later in this era.
func (r *Replica) after(d time.Duration, do func()) {
	era := r.era
	fires := func() {
		if r.era == era {
			do()
		}
	}
	r.cluster.effect(func() {
		r.cluster.config.Clock.After(d, func() {
			r.cluster.turn(func() {
				switch {
				case r.ended:
				case r.stopped:
					r.timers = append(r.timers, fires)
				default:
					fires()
				}
			})
		})
	})
}

func (r *Replica) now() time.Duration { return r.cluster.config.Clock.Now() }

// between is a random time.
func (r *Replica) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.random.Int64N(int64(most-least)))
}

// about is a time or up to twice that, as raft's randomTimeout.
func (r *Replica) about(d time.Duration) time.Duration { return r.between(d, 2*d) }

func (r *Replica) say(format string, args ...any) {
	if r.cluster.config.Observer.Line != nil {
		r.cluster.say(r.number, fmt.Sprintf(format, args...))
	}
}

// voters are the numbers of those that vote.
func (r *Replica) voters() (list []int) {
	for _, s := range r.servers {
		if s.Voter {
			list = append(list, r.cluster.numbers[s.ID])
		}
	}
	return list
}

func (r *Replica) quorum() int { return len(r.voters())/2 + 1 }

func (r *Replica) votes(server int) bool { return slices.Contains(r.voters(), server) }

func (r *Replica) alone() bool { return slices.Equal(r.voters(), []int{r.number}) }

// listed says that a server is in this replica's configuration.
func (r *Replica) listed(server int) bool {
	id := r.cluster.config.Servers[server]
	return slices.ContainsFunc(r.servers, func(s consensus.Server) bool { return s.ID == id })
}

// become changes the role, and tells who watches.
func (r *Replica) become(now role, leads int) {
	if r.role == leader && now != leader {
		r.drop(consensus.ErrOutcomeUnknown)
	}
	r.role, r.leader = now, leads
	r.era++
	r.tell()
}

// enter begins a newer term.
func (r *Replica) enter(term uint64) {
	r.disk.write(func(i *Image) { i.term = term })
	r.tell()
}

// tell replaces a view of leadership nobody has read yet.
func (r *Replica) tell() {
	seen := consensus.Leadership{Leader: r.role == leader, Term: r.disk.term}
	if r.leader != nobody {
		seen.ID = r.cluster.config.Servers[r.leader]
	}
	if seen == r.told {
		return
	}
	r.told = seen
	select {
	case <-r.leadership:
	default:
	}
	r.leadership <- seen // all is told under one lock: the slot is free
}

// settle gives the committed entries to the registry.
func (r *Replica) settle() {
	changed := false
	for r.applied < r.commit {
		r.applied++
		e, ok := r.disk.at(r.applied)
		if !ok {
			panic("raftmodel: a committed entry is missing")
		}
		result := registry.Result{Index: e.index, Term: e.term}
		if e.kind == command {
			result, changed = r.apply(e), true
		}
		r.answer(e, result)
	}
	if changed {
		select {
		case r.changes <- struct{}{}:
		default:
		}
	}
}

// apply is what a replica's fsm does.
func (r *Replica) apply(e entry) registry.Result {
	if applied := r.cluster.config.Observer.Applied; applied != nil {
		r.cluster.effect(func() { applied(r.number, Applied{Index: e.index, Term: e.term, Command: e.data}) })
	}
	c, err := registry.DecodeCommand(e.data)
	if err != nil {
		return registry.Result{Code: registry.ErrUnknown.Code, Detail: err.Error(), Index: e.index, Term: e.term}
	}
	r.view.Lock()
	defer r.view.Unlock()
	return registry.Apply(r.state, e.index, e.term, c)
}

// tend looks at the log over and over, whatever the era: whether a snapshot is due, and
// whether the replica may stand.
func (r *Replica) tend() {
	r.cluster.effect(func() {
		r.cluster.config.Clock.After(consensus.DiskLook, func() {
			r.cluster.turn(func() {
				if r.ended {
					return
				}
				if !r.stopped {
					r.tendSnapshot()
					r.tendPatience()
				}
				r.tend()
			})
		})
	})
}

// tendSnapshot writes one when there is enough to it.
func (r *Replica) tendSnapshot() {
	if r.applied >= r.disk.snapshot.index+r.cluster.config.Threshold {
		r.shorten()
	}
}

// shorten writes a snapshot, and removes the entries far behind it.
func (r *Replica) shorten() {
	e, _ := r.disk.at(r.applied)
	servers, at := r.disk.configuration()
	if at > r.applied || r.applied == r.disk.snapshot.index {
		return // nothing is new, or the configuration may not stand
	}
	s := snapshot{place: e.place, servers: servers, serversAt: at}
	r.View(func(now *registry.State) { s.state = now.Clone() })
	trailing := r.cluster.config.Trailing
	r.disk.write(func(i *Image) {
		i.snapshot = s
		if s.index > trailing {
			i.trim(s.index - trailing + 1)
		}
	})
}

// tendPatience has a replica whose log is behind or forked give the lead away, and one
// whose log is forked not stand until it is well again. Who is behind asks for no vote (see
// poll); an only voter, who needs none, has patience instead.
func (r *Replica) tendPatience() {
	behind := r.behind()
	ails := behind || r.forked()
	if ails && !r.ails && r.role == leader && !r.alone() {
		r.transfer(nobody, func(error) {})
	}
	r.ails = ails
	patient := ails && behind == r.alone()
	if patient == r.patient {
		return
	}
	r.patient = patient
	r.say("has patience with its leader: %v", patient)
	switch r.role {
	case follower:
		r.era++
		r.watch()
	case candidate:
		r.stand(false)
	}
}
