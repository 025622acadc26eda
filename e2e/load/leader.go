package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// What must be when the node that leads is killed under many sessions.
const (
	mustStall     = time.Second
	mustAccount   = 15 * time.Second
	mustReconnect = 2 * time.Minute
	askWithin     = 20 * time.Second // what a node is asked meanwhile
)

// leader logs all clients in, kills the node that leads, which is a gateway, an agent and
// the egress too, and measures what its sessions notice.
func (f *fleet) leader(o options) error {
	o.talk = true
	stop, err := echo()
	if err != nil {
		return err
	}
	defer func() { _ = stop() }() // the program ends
	if err := f.login(o); err != nil {
		return err
	}
	if err := f.talking(max(1, o.clients/talkers)); err != nil {
		return err
	}
	at, err := f.mesh.leads()
	if err != nil {
		return err
	}
	sessions, err := f.mesh.sessions(at)
	if err != nil {
		return err
	}
	was, err := f.crowd()
	if err != nil {
		return err
	}
	before, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	f.mesh.end(at)
	return f.outlive(o, at, sessions, was, before)
}

// outlive waits until all is well without the leader, and judges.
func (f *fleet) outlive(o options, killed int, sessions map[string]carried, was report, before time.Duration) error {
	begin := time.Now()
	account := make(chan error, 1)
	go func() { account <- f.mesh.account((killed+1)%len(f.mesh.nodes), sessions, begin) }()
	took, err := f.steady(o.clients, begin)
	now, crowdErr := f.crowd()
	spent, cpuErr := f.mesh.cpu()
	if err = errors.Join(err, crowdErr, cpuErr); err != nil {
		return errors.Join(err, <-account)
	}
	stall, late := f.stall()
	err = <-account
	fmt.Printf("the leader of %d sessions was killed: control connections of all back in %.1f s (%.2f each), of %d flows %d at once stalled for more than %v, for %v at most, %.1f core-seconds of the others\n",
		o.clients, took.Seconds(), float64(now.dials-was.dials)/float64(o.clients), now.talking, late, mustStall, stall.Round(time.Millisecond), (spent - before).Seconds())
	if stall > mustStall {
		err = errors.Join(err, fmt.Errorf("a flow stalled for %v, at most %v", stall, mustStall))
	}
	if took > mustReconnect {
		err = errors.Join(err, fmt.Errorf("control connections took %v, at most %v", took, mustReconnect))
	}
	return err
}

// settles is how long all have to be attached until that counts: who is parked finds out by
// its next probe that it has to come.
const settles = client.ProbeIdle + 5*time.Second

// steady waits until all clients are attached and stay so, and says when that began.
func (f *fleet) steady(all int, begin time.Time) (took time.Duration, err error) {
	for {
		time.Sleep(2 * reportEvery) // what the crews said last is older than what happened
		if err := f.await(all); err != nil {
			return 0, err
		}
		took, stays := time.Since(begin), true
		for end := time.Now().Add(settles); stays && time.Now().Before(end); time.Sleep(reportEvery) {
			now, err := f.crowd()
			if err != nil {
				return 0, err
			}
			stays = now.attached == all
		}
		if stays {
			return took, nil
		}
	}
}

// talking waits until so many clients have heard answers.
func (f *fleet) talking(flows int) error {
	for end := time.Now().Add(time.Minute); ; time.Sleep(reportEvery) {
		now, err := f.crowd()
		if err != nil || now.talking >= flows {
			time.Sleep(2 * reportEvery) // what was before all talked is none
			f.stall()
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d flows are answered", now.talking, flows)
		}
	}
}

// leads is the node that is the arbiter.
func (m *mesh) leads() (int, error) {
	var all control.Members
	if err := m.ask(0, control.OpMembers, control.Nothing{}, &all); err != nil {
		return 0, err
	}
	for i := range m.nodes {
		for _, one := range all.Members {
			if one.Arbiter && one.Name == fmt.Sprint("n", i) {
				return i, nil
			}
		}
	}
	return 0, errors.New("no member leads")
}

// carried is the slices of a session that are up, by number and epoch, and whether their agents
// told of them.
type carried map[[2]uint32]bool

// accounted reports whether agents told of a session: of each slice that it had before and has
// still. What the arbiter itself granted since then is told of later, and is enough where all
// that was before is gone.
func (now carried) accounted(before carried) bool {
	heard := false
	for slice, told := range now {
		if _, had := before[slice]; had && !told {
			return false
		}
		heard = heard || told
	}
	return heard
}

// sessions are those that are not over.
func (m *mesh) sessions(at int) (map[string]carried, error) {
	var listed control.Sessions
	if err := m.ask(at, control.OpSessions, control.SessionsRequest{}, &listed); err != nil {
		return nil, err
	}
	all := make(map[string]carried)
	for _, s := range listed.Sessions {
		up := make(carried)
		for _, sl := range s.Slices {
			if sl.State == string(registry.SliceUp) {
				up[[2]uint32{uint32(sl.Number), sl.Epoch}] = sl.Quiet > 0
			}
		}
		all[s.ID] = up
	}
	return all, nil
}

// ask has a node do an operation, as the commands do: a process that reads all sessions for each
// question, and writes them down once more, takes seconds where the CPUs are wanted.
func (m *mesh) ask(at int, operation string, in, answer any) error {
	ctx, cancel := context.WithTimeout(context.Background(), askWithin)
	defer cancel()
	return control.Local(filepath.Join(m.nodes[at].dir, datadir.SocketName)).Call(ctx, operation, in, answer)
}

// account waits until agents have told the next arbiter of every session that there was.
func (m *mesh) account(at int, before map[string]carried, begin time.Time) error {
	accounted := make(map[string]bool)
	for time.Since(begin) < patience {
		now, err := m.sessions(at)
		if err == nil {
			for id, slices := range now {
				was, known := before[id]
				if !known {
					return fmt.Errorf("session %s is new", id)
				}
				if slices.accounted(was) {
					accounted[id] = true
				}
			}
			if len(accounted) == len(before) {
				took := time.Since(begin)
				fmt.Printf("every session is accounted for after %.1f s\n", took.Seconds())
				if took > mustAccount {
					return fmt.Errorf("accounted for after %v, at most %v", took, mustAccount)
				}
				return nil
			}
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("%d of %d sessions are accounted for after %v", len(accounted), len(before), patience)
}
