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
	clients []*visitor
	serial  int
}

// add starts one more client; each has an address of its own.
func (f *fleet) add(ctx context.Context) (*visitor, error) {
	a := f.mesh.accounts[f.serial%len(f.mesh.accounts)]
	gateways := a.profile.Gateways
	first := f.serial % len(gateways)
	a.profile.Gateways = append(append(gateways[:0:0], gateways[first:]...), gateways[:first]...)
	v, err := visit(ctx, f.serial, a.profile, a.key)
	f.serial++
	return v, err
}

// attached counts the clients that the arbiter hears.
func (f *fleet) attached(ctx context.Context) (n int) {
	for _, v := range f.clients {
		if v.attached(ctx) {
			n++
		}
	}
	return n
}

// await waits until all clients are attached, and says how many when something changes.
func (f *fleet) await(ctx context.Context) error {
	last, end := -1, time.Now().Add(patience)
	for {
		n := f.attached(ctx)
		if n != last && (n == len(f.clients) || n >= last+max(1, len(f.clients)/10) || n < last) {
			fmt.Printf("%6.1f s: %d of %d clients attached\n", time.Since(started).Seconds(), n, len(f.clients))
			last = n
		}
		switch err := f.ended(); {
		case err != nil:
			return fmt.Errorf("a client gave up: %w", err)
		case n == len(f.clients):
			return nil
		case time.Now().After(end):
			return fmt.Errorf("%d of %d clients attached after %v", n, len(f.clients), patience)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// ended is why a client gave up, if one did.
func (f *fleet) ended() error {
	for _, v := range f.clients {
		select {
		case <-v.ended:
			return v.err
		default:
		}
	}
	return nil
}

// back logs all clients in, restarts all nodes at once and measures until every client
// is heard again.
func (f *fleet) back(ctx context.Context, o options) error {
	begun, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	empty, err := f.mesh.all()
	if err != nil {
		return err
	}
	for range o.clients {
		v, err := f.add(ctx)
		if err != nil {
			return err
		}
		f.clients = append(f.clients, v)
		time.Sleep(10 * time.Millisecond) // no faster than one source of handshakes may
	}
	if err := f.await(ctx); err != nil {
		return err
	}
	before, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	fmt.Printf("%d logins: %.1f core-seconds of %d nodes, %.2f ms each\n", o.clients, (before - begun).Seconds(), o.nodes, each(before-begun, o.clients))
	if err := f.memory(empty); err != nil {
		return err
	}
	return f.restart(ctx, o)
}

// memory says what the sessions of the mesh take at each node.
func (f *fleet) memory(empty []usage) error {
	all, err := f.mesh.all()
	for i, u := range all {
		fmt.Printf("n%d: RSS %d MiB, %d descriptors, %d threads; %.1f KiB of RSS more for each of the mesh's sessions\n",
			i, u.rss>>20, u.descriptors, u.threads, float64(u.rss-empty[i].rss)/1024/float64(len(f.clients)))
	}
	return err
}

func (f *fleet) restart(ctx context.Context, o options) error {
	f.mesh.kill()
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
	if err = errors.Join(err, f.await(ctx)); err != nil {
		return err
	}
	after, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	spent, must := after-before, mustBack*time.Duration(o.clients)/10_000
	fmt.Printf("%d clients back after a restart of %d nodes: %.1f core-seconds, %.2f ms each, in %.1f s\n",
		o.clients, o.nodes, spent.Seconds(), each(spent, o.clients), time.Since(at).Seconds())
	if spent > must {
		return fmt.Errorf("must be %.1f core-seconds (60 for 10,000)", must.Seconds())
	}
	return nil
}

func each(d time.Duration, n int) float64 { return float64(d.Microseconds()) / 1e3 / float64(n) }
