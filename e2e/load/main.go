// Command load puts many clients on whole daemons of this host and says what that
// costs the daemons. The clients are the product's own core, without a TUN. It owns
// the mesh that it founds, in namespaces of its own, its clients and the verdict;
// what single operations cost is e2e/scale's.
//
//	load -what back -clients 10000   all nodes end by kill -9 and start again
//	load -what rest -clients 10000   what clients that say nothing take of memory
//	load -what leader -clients 1000  the node that leads ends by kill -9, and stays away
//	load -what churn -minutes 30     clients log in and out, a third by kill -9
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// options are the flags.
type options struct {
	what     string
	nodes    int
	clients  int
	minutes  int
	rate     float64
	accounts int
	first    int
	pace     time.Duration
	atOnce   int
	talk     bool
	binary   string
	keep     string
}

var started = time.Now()

func main() { os.Exit(start()) }

func start() int {
	var o options
	flag.StringVar(&o.what, "what", "back", "back: all nodes restart; leader: one is killed; rest: clients say nothing; churn: clients come and go")
	flag.IntVar(&o.nodes, "nodes", 3, "daemons")
	flag.IntVar(&o.clients, "clients", 10_000, "clients that come back")
	flag.IntVar(&o.minutes, "minutes", 30, "length of the churn")
	flag.Float64Var(&o.rate, "rate", 5, "logins a second of the churn")
	flag.IntVar(&o.accounts, "accounts", 16, "accounts that the clients share")
	flag.IntVar(&o.first, "first", 0, "of a crew: the number of its first client")
	flag.DurationVar(&o.pace, "pace", pace, "of a crew: between two logins")
	flag.IntVar(&o.atOnce, "at-once", atOnce, "of a crew: logins under way")
	flag.BoolVar(&o.talk, "talk", false, "of a crew: its clients send packets")
	flag.StringVar(&o.binary, "binary", "bin/meshcrypt", "meshcrypt to load")
	flag.StringVar(&o.keep, "keep", "", "directory that stays, for the daemons' logs")
	flag.Parse()
	if o.what == "crew" { // in the namespaces of who hired it
		return told(o.crew(context.Background()))
	}
	return lab.Enter(func() int { return told(o.run()) })
}

func told(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		return 1
	}
	return 0
}

func (o options) run() error {
	if min(o.nodes, o.clients, o.minutes, o.accounts) < 1 || o.rate <= 0 {
		return errors.New("nodes, clients, minutes, accounts and the rate are 1 or more")
	}
	binary, err := filepath.Abs(o.binary)
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		return fmt.Errorf("%w: make build first", err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if err := room(o.clients, o.nodes, limit.Max); err != nil && o.what != "churn" {
		return err
	}
	dir := o.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "load"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	policy := []string{"sessions-per-client", "unlimited"}
	if o.what == "churn" {
		policy = append(policy, "headless", headless.String())
	}
	m, err := found(binary, dir, o.nodes, o.accounts, policy...)
	defer m.kill()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := &fleet{mesh: m}
	switch o.what {
	case "back":
		return f.back(o)
	case "leader":
		return f.leader(o)
	case "rest":
		return f.rest(o)
	case "churn":
		return f.churn(ctx, o)
	}
	return fmt.Errorf("-what is back, leader, rest or churn, not %q", o.what)
}
