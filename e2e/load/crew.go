package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/node/client"
)

const (
	// maxCrew is how many clients one process has: each needs three descriptors, a
	// fourth while it connects anew, and a process may have 20,000 in many places.
	maxCrew = 4_000
	// pace is between two logins, all crews together: no more than the ports of the
	// nodes take of strangers.
	pace = 10 * time.Millisecond
	// reportEvery is how often a crew says how many of its clients are attached.
	reportEvery = 500 * time.Millisecond
)

// crew is a process with clients.
type crew struct {
	process  *exec.Cmd
	attached atomic.Int64
	ended    chan error
}

// hire starts crews that have o.clients clients together.
func (f *fleet) hire(o options) error {
	crews := (o.clients + maxCrew - 1) / maxCrew
	for first := 0; first < o.clients; first += maxCrew {
		c := &crew{ended: make(chan error, 1), process: exec.Command("/proc/self/exe", "-what", "crew",
			"-nodes", fmt.Sprint(o.nodes), "-accounts", fmt.Sprint(o.accounts), "-keep", f.mesh.dir, "-first", fmt.Sprint(first),
			"-clients", fmt.Sprint(min(maxCrew, o.clients-first)), "-pace", fmt.Sprint(pace*time.Duration(crews)))}
		c.process.Stderr = os.Stderr
		c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		said, err := c.process.StdoutPipe()
		if err == nil {
			err = c.process.Start()
		}
		if err != nil {
			return err
		}
		go func() {
			for lines := bufio.NewScanner(said); lines.Scan(); {
				n, _ := strconv.Atoi(lines.Text()) // a crew of our own writes nothing else
				c.attached.Store(int64(n))
			}
			c.ended <- errors.Join(errors.New("a crew ended"), c.process.Wait())
		}()
		f.crews = append(f.crews, c)
	}
	return nil
}

// attached counts the clients that the arbiter hears, as the crews said last.
func (f *fleet) attached() (n int, err error) {
	for _, c := range f.crews {
		n += int(c.attached.Load())
		select {
		case err := <-c.ended:
			return n, err
		default:
		}
	}
	return n, nil
}

// crew is what such a process does, until it is killed or a client gives up.
func (o options) crew(ctx context.Context) error {
	m, err := known(o.keep, o.nodes, o.accounts)
	if err != nil {
		return err
	}
	go watchPace()
	f, failed := &fleet{mesh: m, serial: o.first}, make(chan error, 1)
	joined := make(chan *visitor)
	go func() {
		for range o.clients {
			v, err := f.add(ctx)
			if err != nil {
				failed <- err
				return
			}
			joined <- v
			time.Sleep(o.pace)
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
		case <-report.C:
			if err := f.ended(); err != nil {
				return fmt.Errorf("a client gave up: %w", err)
			}
			fmt.Println(f.heard(ctx))
		}
	}
}

// watchPace says for as long as the process lasts when it stood still.
func watchPace() {
	tick, last := time.NewTicker(reportEvery), time.Now()
	defer tick.Stop()
	for range tick.C {
		now := time.Now()
		if stood := stoodStill(last, now); stood > 0 {
			fmt.Fprintf(os.Stderr, "a crew stood still for %v: its clients drop their keys and begin anew, so what is measured is this machine\n", stood.Round(time.Millisecond))
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

// heard counts the clients of this process that the arbiter hears.
func (f *fleet) heard(ctx context.Context) (n int) {
	for _, v := range f.clients {
		if v.attached(ctx) {
			n++
		}
	}
	return n
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
