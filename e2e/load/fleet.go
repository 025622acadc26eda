package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// mustBack is the CPU time of all nodes together by which 10,000 clients are back.
const mustBack = 60 * time.Second

// patience is how long the fleet waits for its clients.
const patience = 15 * time.Minute

// fleet is the clients of a mesh.
type fleet struct {
	mesh    *mesh
	clients []*visitor // of this process
	serial  int
	crews   []*crew
	words   int  // said to them, or heard as one
	talk    bool // its clients send packets
}

// add starts one more client; each has an address of its own.
func (f *fleet) add(ctx context.Context) (*visitor, error) {
	a := f.mesh.accounts[f.serial%len(f.mesh.accounts)]
	gateways := a.profile.Gateways
	first := f.serial % len(gateways)
	a.profile.Gateways = append(append(gateways[:0:0], gateways[first:]...), gateways[:first]...)
	v, err := visit(ctx, f.serial, a.profile, a.key, f.talk)
	f.serial++
	return v, err
}

// await waits until as many clients are attached, and says how many when that changes.
func (f *fleet) await(all int) error {
	last, end := -1, time.Now().Add(patience)
	for {
		now, err := f.crowd()
		if n := now.attached; n != last && (n == all || n >= last+max(1, all/10) || n < last) {
			fmt.Printf("%6.1f s: %d of %d clients attached, %d connections so far\n", time.Since(started).Seconds(), n, all, now.dials)
			last = n
		}
		switch {
		case err != nil:
			return err
		case now.attached == all:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%d of %d clients attached after %v", now.attached, all, patience)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// back logs all clients in, restarts all nodes at once and measures until every client
// is heard again.
func (f *fleet) back(o options) error {
	if err := f.login(o); err != nil {
		return err
	}
	return f.restart(o)
}

// login logs all clients in.
func (f *fleet) login(o options) error {
	begun, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	empty, err := f.mesh.asked()
	if err != nil {
		return err
	}
	if err := f.hire(o); err != nil {
		return err
	}
	if err := f.await(o.clients); err != nil {
		return err
	}
	before, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	fmt.Printf("%d logins: %.1f core-seconds of %d nodes, %.2f ms each\n", o.clients, (before - begun).Seconds(), o.nodes, each(before-begun, o.clients))
	_, err = f.memory(empty, o.clients)
	return err
}

func (f *fleet) restart(o options) error {
	was, err := f.crowd()
	if err != nil {
		return err
	}
	f.mesh.kill()
	if err := f.anew(); err != nil {
		return err
	}
	before, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	at := time.Now()
	up := make(chan error)
	for i := range f.mesh.nodes {
		go func() { up <- f.mesh.start(i) }()
	}
	for range f.mesh.nodes {
		err = errors.Join(err, <-up)
	}
	if err = errors.Join(err, f.await(o.clients)); err != nil {
		return err
	}
	after, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	now, err := f.crowd()
	if err != nil {
		return err
	}
	spent, must := after-before, mustBack*time.Duration(o.clients)/10_000
	fmt.Printf("%d clients back after a restart of %d nodes: %.1f core-seconds, %.2f ms each, in %.1f s, by %.2f connections each\n",
		o.clients, o.nodes, spent.Seconds(), each(spent, o.clients), time.Since(at).Seconds(), float64(now.dials-was.dials)/float64(o.clients))
	if spent > must {
		return fmt.Errorf("must be %.1f core-seconds (60 for 10,000)", must.Seconds())
	}
	return nil
}

func each(d time.Duration, n int) float64 { return float64(d.Microseconds()) / 1e3 / float64(n) }
