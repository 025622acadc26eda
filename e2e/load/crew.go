package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/node/client"
)

const (
	// maxCrew is how many clients one process has: each needs three descriptors, a
	// fourth while it connects anew, and a process may have 20,000 in many places.
	maxCrew = 4_000
	// pace is between two logins, all crews together, at least: no more than the ports of
	// the nodes take of strangers. No crew begins more while atOnce of its clients, its part
	// of all crews', have not been let in: what machine this is shows in the time it takes.
	pace   = 5 * time.Millisecond
	atOnce = 64
	// reportEvery is how often a crew says how its clients are.
	reportEvery = 500 * time.Millisecond
	// crewNice is a crew's priority. Its clients stand for hosts of their own, and take nothing
	// from the nodes: where both need the CPU the clients are the slower ones.
	crewNice = "5"
	// talkers is of how many clients one sends packets. Those have a crew of their own, or they
	// would stall for want of CPU among thousands that come back.
	talkers = 50
)

// crew is a process with clients.
type crew struct {
	process *exec.Cmd
	words   io.Writer              // to it
	said    atomic.Pointer[report] // last
	worst   atomic.Int64           // stall since it was asked last
	late    atomic.Int64           // flows that stalled for more than mustStall at once, the most since then
	ended   chan error
}

// report is how the clients of a crew are.
type report struct {
	attached int           // clients that the arbiter hears
	dials    int           // control connections that were opened so far
	talking  int           // clients that send packets and were answered
	words    int           // that were heard when it was made
	late     int           // of them, that stalled for more than mustStall since the last report
	stall    time.Duration // longest of those since the last report
}

func (r report) String() string {
	return fmt.Sprint(r.attached, " ", r.dials, " ", r.talking, " ", r.words, " ", r.late, " ", int64(r.stall))
}

// take notes what a crew says.
func (c *crew) take(line string) {
	var r report
	if _, err := fmt.Sscan(line, &r.attached, &r.dials, &r.talking, &r.words, &r.late, (*int64)(&r.stall)); err != nil {
		return // a crew of our own writes nothing else, but may be killed in the middle
	}
	c.said.Store(&r)
	raise(&c.worst, int64(r.stall))
	raise(&c.late, int64(r.late))
}

// raise has a number be another one if that is more.
func raise(of *atomic.Int64, is int64) {
	for was := of.Load(); is > was && !of.CompareAndSwap(was, is); was = of.Load() {
	}
}

const (
	// descriptorsEach is what a client takes of its gateway at most: its connection, and a
	// port towards each of the others that has a slice of it.
	descriptorsEach = 2.5
	// descriptorsOwn is what a node has beside.
	descriptorsOwn = 500
)

// room says whether so many daemons of this host can have so many clients.
func room(clients, nodes int, limit uint64) error {
	each := descriptorsEach / float64(nodes)
	if most := int((float64(limit) - descriptorsOwn) / each); clients > most {
		return fmt.Errorf("%d clients take %.0f descriptors of each of %d nodes, and a process may have %d here (ulimit -Hn): at most %d clients, or raise it",
			clients, descriptorsOwn+each*float64(clients), nodes, limit, most)
	}
	return nil
}

// hire starts crews that have o.clients clients together.
func (f *fleet) hire(o options) error {
	crews := o.crews()
	for _, part := range crews {
		part.pace, part.atOnce = pace*time.Duration(len(crews)), max(1, atOnce/len(crews))
		if err := f.start(part); err != nil {
			return err
		}
	}
	return nil
}

// crews is who has which clients; those that are to send packets come first.
func (o options) crews() (all []options) {
	talking := 0
	if o.talk {
		talking = max(1, o.clients/talkers)
	}
	for first := 0; first < o.clients; {
		part := o
		part.first, part.talk = first, first < talking
		end := o.clients
		if part.talk {
			end = talking
		}
		part.clients = min(maxCrew, end-first)
		first += part.clients
		all = append(all, part)
	}
	return all
}

// start has a process run a crew.
func (f *fleet) start(o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := &crew{ended: make(chan error, 1), process: exec.Command("nice", "-n", crewNice, self, "-what", "crew", "-talk="+fmt.Sprint(o.talk),
		"-nodes", fmt.Sprint(o.nodes), "-accounts", fmt.Sprint(o.accounts), "-keep", f.mesh.dir, "-first", fmt.Sprint(o.first),
		"-clients", fmt.Sprint(o.clients), "-pace", fmt.Sprint(o.pace), "-at-once", fmt.Sprint(o.atOnce))}
	c.said.Store(&report{})
	c.process.Stderr = os.Stderr
	c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := c.process.StdoutPipe()
	if err == nil {
		c.words, err = c.process.StdinPipe()
	}
	if err == nil {
		err = c.process.Start()
	}
	if err != nil {
		return err
	}
	go func() {
		for lines := bufio.NewScanner(said); lines.Scan(); {
			c.take(lines.Text())
		}
		c.ended <- errors.Join(errors.New("a crew ended"), c.process.Wait())
	}()
	f.crews = append(f.crews, c)
	return nil
}

// anew has every client count as attached only by a connection that it makes from now on.
// A crew that gets little of the CPU reports late, and what it says before it has heard that
// is of the time before.
func (f *fleet) anew() error {
	f.words++
	for _, c := range f.crews {
		if _, err := io.WriteString(c.words, "anew\n"); err != nil {
			return err
		}
	}
	for end := time.Now().Add(patience); ; time.Sleep(reportEvery / 10) {
		_, err := f.crowd()
		late := slices.ContainsFunc(f.crews, func(c *crew) bool { return c.said.Load().words < f.words })
		switch {
		case err != nil || !late:
			return err
		case time.Now().After(end):
			return errors.New("a crew hears nothing")
		}
	}
}

// crowd is how all clients are, as the crews said last.
func (f *fleet) crowd() (all report, err error) {
	for _, c := range f.crews {
		r := *c.said.Load()
		all.attached, all.dials, all.talking = all.attached+r.attached, all.dials+r.dials, all.talking+r.talking
		select {
		case err := <-c.ended:
			return all, err
		default:
		}
	}
	return all, nil
}

// stall is the longest of all talking clients since it was asked last, and how many stalled for
// more than mustStall at once.
func (f *fleet) stall() (worst time.Duration, late int) {
	for _, c := range f.crews {
		worst, late = max(worst, time.Duration(c.worst.Swap(0))), late+int(c.late.Swap(0))
	}
	return worst, late
}

// crew is what such a process does, until it is killed or a client gives up.
func (o options) crew(ctx context.Context) error {
	m, err := known(o.keep, o.nodes, o.accounts)
	if err != nil {
		return err
	}
	go watchPace()
	f, failed := &fleet{mesh: m, serial: o.first, talk: o.talk}, make(chan error, 1)
	joined, words := make(chan *visitor), make(chan string)
	go f.join(ctx, o, joined, failed)
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			words <- lines.Text()
		}
	}()
	report := time.NewTicker(reportEvery)
	defer report.Stop()
	for {
		select {
		case v := <-joined:
			f.clients = append(f.clients, v)
		case err := <-failed:
			return err
		case <-words: // there is one
			f.words++
			for _, v := range f.clients {
				v.anew()
			}
		case <-report.C:
			if err := f.ended(); err != nil {
				return fmt.Errorf("a client gave up: %w", err)
			}
			fmt.Println(f.report(ctx))
		}
	}
}

// join starts the clients of this process, no more at once than are to be.
func (f *fleet) join(ctx context.Context, o options, joined chan<- *visitor, failed chan<- error) {
	room := make(chan struct{}, o.atOnce)
	for range o.clients {
		room <- struct{}{}
		v, err := f.add(ctx)
		if err != nil {
			failed <- err
			return
		}
		go func() {
			select {
			case <-v.ready:
			case <-v.ended:
			}
			<-room
		}()
		joined <- v
		time.Sleep(o.pace)
	}
}

// watchPace says for as long as the process lasts when it stood still.
func watchPace() {
	tick, last := time.NewTicker(reportEvery), time.Now()
	defer tick.Stop()
	for range tick.C {
		now := time.Now()
		if stood := stoodStill(last, now); stood > 0 {
			fmt.Fprintf(os.Stderr, "a crew stood still for %v, and its clients with it: what is measured is this machine\n", stood.Round(time.Millisecond))
		}
		last = now
	}
}

// stoodStill is how much later than it was due a tick is, where that is longer than a
// client may stand still and keep its keys: this process gets too little of the CPU.
func stoodStill(last, now time.Time) time.Duration {
	if late := now.Sub(last) - reportEvery; late > client.RestartAfter {
		return late
	}
	return 0
}

// report is how the clients of this process are.
func (f *fleet) report(ctx context.Context) (r report) {
	r.words = f.words
	for _, v := range f.clients {
		if v.attached(ctx) {
			r.attached++
		}
		r.dials += int(v.dials.Load())
		if v.flow == nil {
			continue
		}
		if stall, heard := v.flow.stall(); heard {
			r.talking, r.stall = r.talking+1, max(r.stall, stall)
			if stall > mustStall {
				r.late++
			}
		}
	}
	return r
}

// ended is why a client of this process gave up, if one did.
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
