// Command mutants turns the project's guards off, one at a time, and runs the
// unit tests: a test must notice. It owns the list of what can be turned off, the
// draw and the report. It never writes into the tree: a changed file exists only
// in an overlay of the build. It does not judge whether a change matters: who says
// that one does not, writes down why (equivalent.txt).
//
//	go run ./e2e/mutants                     what make mutants runs
//	go run ./e2e/mutants -draw 0             only those of named.txt
//	go run ./e2e/mutants -only crypto/esp    those whose name holds a text
//	go run ./e2e/mutants -log F              goes on where F ends
//	go run ./e2e/mutants -log F -again       and tries again who survived there
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	root   string
	seed   uint64
	draw   int
	only   string
	log    string
	jobs   int
	within time.Duration
	grace  time.Duration
	again  bool
	list   bool
}

func main() { os.Exit(start()) }

func start() int {
	var o options
	flag.StringVar(&o.root, "root", ".", "the project's directory")
	flag.Uint64Var(&o.seed, "seed", 1, "of the draw: the same seed and tree, the same mutants")
	flag.IntVar(&o.draw, "draw", 320, "mutants to draw beside the named ones")
	flag.StringVar(&o.only, "only", "", "of those, only what has this text in its name")
	flag.StringVar(&o.log, "log", "", "file of results: what stands there is not tried again")
	flag.IntVar(&o.jobs, "jobs", 2, "mutants at a time")
	flag.DurationVar(&o.within, "within", 40*time.Minute, "begin none after this time")
	flag.DurationVar(&o.grace, "grace", 20*time.Second, "what a mutant's tests may take beyond 4 times their usual time")
	flag.BoolVar(&o.again, "again", false, "try those again that survived in the log")
	flag.BoolVar(&o.list, "list", false, "print the mutants and try none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	sound, err := o.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		return 2
	}
	if !sound {
		return 1
	}
	return 0
}

// run reports whether every mutant was noticed, or is known to change nothing.
func (o options) run(ctx context.Context) (sound bool, err error) {
	plan, err := readPlan(o.root)
	if err != nil {
		return false, err
	}
	chosen := plan.choose(o.seed, o.draw, o.only)
	if o.list {
		for _, m := range chosen {
			fmt.Println(m.name(), m.diff())
		}
		return true, nil
	}
	r, err := newRunner(o, plan.extra)
	if err != nil {
		return false, err
	}
	defer r.close()
	if err := r.measure(ctx, chosen); err != nil {
		return false, err
	}
	results := r.tryAll(ctx, chosen)
	return report(os.Stdout, results, len(chosen), plan.equivalent), nil
}

// choose is the draw and the named ones, by package and place: those of one
// package follow each other, which the build cache likes.
func (p *plan) choose(seed uint64, draw int, only string) (chosen []mutant) {
	for _, m := range append(drawn(p.found, seed, draw), p.named...) {
		if strings.Contains(m.name(), only) {
			chosen = append(chosen, m)
		}
	}
	byPlace(chosen)
	return chosen
}
