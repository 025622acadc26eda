package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// settled is when the churn's first measure is taken: by then tables and pools have
	// the size that this load needs, and as many sessions of clients that ended without a
	// goodbye are given up as come (headless, which is far less).
	settled = 10 * time.Minute
	// compared is how many looks, a minute apart, are one side of the comparison.
	compared = 5
	// headless is how long such a session is kept for its client, who may only be cut off
	// from its arbiter.
	headless = 2 * time.Minute
	// most is how much more there may be at the end.
	most = 1.05
	// mostEnded is how many bytes of memory an ended session may take: it stays listed for
	// a day.
	mostEnded = 1 << 10
	// mostLog bounds raft.db: 6,144 entries between two snapshots, with room for the
	// pages that bolt keeps free.
	mostLog = 64 << 20
	// staysLeast and staysMost are how long a client stays.
	staysLeast, staysMost = 20 * time.Second, 60 * time.Second
)

// churn logs clients in at a rate, each out after a while, a third by kill -9, and
// compares what the nodes have in use at the end with what they had when it was settled, by
// the medians of several looks. A shorter one only shows the figures.
func (f *fleet) churn(ctx context.Context, o options) error {
	length := time.Duration(o.minutes) * time.Minute
	begin := time.Now()
	var looks []look
	note := func() error {
		nodes, err := f.sample()
		looks = append(looks, look{at: time.Since(begin), logins: f.serial, nodes: nodes})
		return err
	}
	gone, leaving := make(chan error, 4096), 0
	for time.Since(begin) < length {
		next := begin.Add(time.Duration(float64(f.serial+1) / o.rate * float64(time.Second)))
		v, err := f.add(ctx)
		if err != nil {
			return err
		}
		leaving++
		killed := f.serial%3 == 0
		go func() { gone <- v.stay(killed) }()
		for len(gone) > 0 {
			err, leaving = errors.Join(err, <-gone), leaving-1
		}
		if err != nil {
			return err
		}
		if len(looks) == 0 || time.Since(begin)-looks[len(looks)-1].at >= time.Minute {
			if err := note(); err != nil {
				return err
			}
		}
		time.Sleep(time.Until(next))
	}
	if err := note(); err != nil {
		return err
	}
	fmt.Printf("%d logins in %v\n", f.serial, time.Since(begin).Round(time.Second))
	if length <= settled {
		fmt.Printf("no verdict: what nodes hold has settled after %v\n", settled)
		return nil
	}
	reference, last := around(looks, settled), middle(looks[len(looks)-min(compared, len(looks)):])
	return compare(reference.nodes, last.nodes, last.logins-reference.logins)
}

// look is what every node had in use at a time.
type look struct {
	at     time.Duration
	logins int // until then
	nodes  []usage
}

// around is the middle of the looks around a time.
func around(looks []look, at time.Duration) look {
	i := slices.IndexFunc(looks, func(l look) bool { return l.at >= at })
	return middle(looks[max(0, i-compared/2):min(len(looks), i+compared/2+1)])
}

// middle is the median of everything: one look may come right before a collection of the
// heap, and another right behind one.
func middle(looks []look) look {
	m := look{logins: median(looks, func(l look) int { return l.logins })}
	for i, u := range looks[0].nodes {
		u.rss = median(looks, func(l look) int64 { return l.nodes[i].rss })
		u.log = median(looks, func(l look) int64 { return l.nodes[i].log })
		u.descriptors = median(looks, func(l look) int { return l.nodes[i].descriptors })
		u.threads = median(looks, func(l look) int { return l.nodes[i].threads })
		m.nodes = append(m.nodes, u)
	}
	return m
}

func median[T cmp.Ordered](looks []look, of func(look) T) T {
	var all []T
	for _, l := range looks {
		all = append(all, of(l))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// stay is one client's life.
func (v *visitor) stay(killed bool) error {
	select {
	case <-v.ready:
	case <-v.ended:
		return fmt.Errorf("a client gave up: %w", v.err)
	case <-time.After(time.Minute):
		v.leave()
		return errors.New("a client had no session within a minute")
	}
	time.Sleep(staysLeast + rand.N(staysMost-staysLeast))
	if killed {
		v.kill()
	} else {
		v.leave()
	}
	return nil
}

// sample says and gives what every node has in use.
func (f *fleet) sample() (all []usage, err error) {
	all, err = f.mesh.asked()
	mib := func(bytes uint64) float64 { return float64(bytes) / (1 << 20) }
	for i, u := range all {
		m := u.memory
		fmt.Printf("%6.1f s: n%d after %d logins: RSS %.1f MiB (heap %.1f, %.1f live, stacks %.1f), %d sessions, %d descriptors, %d threads, raft.db %.1f MiB, CPU %.1f s\n",
			time.Since(started).Seconds(), i, f.serial, mib(uint64(u.rss)), mib(m.Heap), mib(m.Live), mib(m.Stacks),
			u.sessions, u.descriptors, u.threads, mib(uint64(u.log)), u.cpu.Seconds())
	}
	return all, err
}

// compare is the verdict, when so many sessions have ended between.
func compare(reference, last []usage, ended int) (err error) {
	grew := func(node int, what string, was, is, beside float64) {
		if is > math.Ceil(was*most)+beside { // of 19 threads a twentieth is one
			err = errors.Join(err, fmt.Errorf("n%d: %s went from %.0f to %.0f, at most %.2f times as much and %.0f", node, what, was, is, most, beside))
		}
	}
	for i := range last {
		was, is := reference[i], last[i]
		grew(i, "RSS", float64(was.rss), float64(is.rss), float64(ended*mostEnded))
		grew(i, "descriptors", float64(was.descriptors), float64(is.descriptors), 0)
		grew(i, "threads", float64(was.threads), float64(is.threads), 0)
		if is.log > mostLog {
			err = errors.Join(err, fmt.Errorf("n%d: raft.db has %d bytes, at most %d", i, is.log, mostLog))
		}
	}
	return err
}
