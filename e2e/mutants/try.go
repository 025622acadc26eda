package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// What became of a mutant.
const (
	killed   = "killed"
	timedOut = "timed out"        // a test noticed by never ending
	refused  = "does not compile" // the compiler noticed
	survived = "survived"
)

const (
	// buildWithin is how long a test binary may take to build.
	buildWithin = 3 * time.Minute
	// slower is how many times what they take without it a mutant's tests may take:
	// other work on the machine kills no mutant.
	slower = 4
)

// result is one line of the log.
type result struct {
	Name   string
	Dir    string
	Diff   string
	Fate   string
	Millis int64
}

// runner tries mutants. Its log belongs to the goroutine of tryAll.
type runner struct {
	options
	extra map[string][]string
	work  string                   // temporary directory
	alone map[string]time.Duration // how long a package's tests take unchanged
	known map[string]result        // of the log, by name
	out   *os.File                 // nil: no log
}

func newRunner(o options, extra map[string][]string) (*runner, error) {
	r := &runner{options: o, extra: extra, alone: make(map[string]time.Duration), known: make(map[string]result)}
	var err error
	if r.root, err = filepath.Abs(o.root); err != nil {
		return nil, err
	}
	if r.work, err = os.MkdirTemp("", "mutants"); err != nil || o.log == "" {
		return r, err
	}
	if r.out, err = os.OpenFile(o.log, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(r.out)
	for lines.Scan() {
		var past result
		if json.Unmarshal(lines.Bytes(), &past) == nil {
			r.known[past.Name] = past
		}
		if o.again && past.Fate == survived {
			delete(r.known, past.Name)
		}
	}
	return r, lines.Err()
}

func (r *runner) close() {
	os.RemoveAll(r.work)
	if r.out != nil {
		r.out.Close()
	}
}

// tested are the packages whose tests may notice a mutant, its own first; or those alone
// that are to.
func (r *runner) tested(m mutant) (dirs []string) {
	if m.by != nil {
		return m.by
	}
	for _, dir := range slices.Concat([]string{m.dir()}, m.tests, r.extra[m.dir()]) {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// measure runs the tests without any change: they must pass, and their time is
// what a mutant's is held against.
func (r *runner) measure(ctx context.Context, chosen []mutant) error {
	for _, m := range chosen {
		if _, done := r.known[m.name()]; done {
			continue
		}
		for _, dir := range r.tested(m) {
			if _, done := r.alone[dir]; done {
				continue
			}
			binary, err := r.build(ctx, dir, "")
			if err != nil {
				return err
			}
			begin := time.Now()
			fate := r.test(ctx, dir, binary, buildWithin)
			r.alone[dir] = time.Since(begin)
			os.Remove(binary)
			if fate != survived {
				return fmt.Errorf("the tests of %s fail without any change (%s)", dir, fate)
			}
		}
	}
	return nil
}

// tryAll tries the mutants, some at a time, until all are tried or time is over.
func (r *runner) tryAll(ctx context.Context, chosen []mutant) (results []result) {
	ctx, cancel := context.WithTimeout(ctx, r.within)
	defer cancel()
	waiting, ended := make(chan mutant), make(chan result)
	var workers sync.WaitGroup
	for range max(1, r.jobs) {
		workers.Go(func() {
			for m := range waiting {
				if one := r.try(ctx, m); one.Fate != "" {
					ended <- one
				}
			}
		})
	}
	go func() {
		for _, m := range chosen {
			if _, done := r.known[m.name()]; !done && ctx.Err() == nil {
				waiting <- m
			}
		}
		close(waiting)
		workers.Wait()
		close(ended)
	}()
	for _, m := range chosen {
		if past, done := r.known[m.name()]; done {
			results = append(results, past)
		}
	}
	for one := range ended {
		results = append(results, one)
		r.note(one, len(results), len(chosen))
	}
	return results
}

func (r *runner) note(one result, n, of int) {
	fmt.Fprintf(os.Stderr, "%d/%d %s: %s (%.1f s)\n", n, of, one.Name, one.Fate, float64(one.Millis)/1000)
	if r.out == nil {
		return
	}
	line, err := json.Marshal(one)
	if err == nil {
		_, err = r.out.Write(append(line, '\n'))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants: log:", err)
	}
}

// try builds and runs the tests that may notice, until one does. It says nothing
// of one that was interrupted.
func (r *runner) try(ctx context.Context, m mutant) result {
	begin := time.Now()
	one := result{Name: m.name(), Dir: m.dir(), Diff: m.diff(), Fate: survived}
	overlay, err := r.overlay(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		return result{}
	}
	defer os.RemoveAll(filepath.Dir(overlay))
	for _, dir := range r.tested(m) {
		binary, err := r.build(ctx, dir, overlay)
		if err != nil {
			one.Fate = refused
			break
		}
		one.Fate = r.test(ctx, dir, binary, slower*r.alone[dir]+r.grace)
		os.Remove(binary)
		if one.Fate != survived {
			break
		}
	}
	if ctx.Err() != nil {
		return result{}
	}
	one.Millis = time.Since(begin).Milliseconds()
	return one
}

// overlay writes the changed file, and what tells the go command of it.
func (r *runner) overlay(m mutant) (string, error) {
	dir, err := os.MkdirTemp(r.work, "")
	if err != nil {
		return "", err
	}
	original := filepath.Join(r.root, m.file)
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if m.to > len(text) || string(text[m.from:m.to]) != m.before {
		return "", fmt.Errorf("%s was changed meanwhile", m.file)
	}
	changed, list := filepath.Join(dir, filepath.Base(m.file)), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(changed, m.applied(text), 0o600); err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	return list, os.WriteFile(list, body, 0o600)
}

// build makes a package's test binary.
func (r *runner) build(ctx context.Context, dir, overlay string) (binary string, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildWithin)
	defer cancel()
	f, err := os.CreateTemp(r.work, "*.test")
	if err != nil {
		return "", err
	}
	f.Close()
	args := []string{"test", "-c", "-vet=off", "-trimpath", "-ldflags=-s -w", "-o", f.Name()}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	c := exec.CommandContext(ctx, "go", append(args, "./"+dir)...)
	c.Dir = r.root
	if out, err := c.CombinedOutput(); err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("%s: %w\n%s", dir, err, strings.TrimSpace(string(out)))
	}
	return f.Name(), nil
}

// test runs a test binary where its package is. What it started ends with it.
func (r *runner) test(ctx context.Context, dir, path string, limit time.Duration) (fate string) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, path, "-test.failfast")
	c.Dir = filepath.Join(r.root, dir)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	err := c.Run()
	switch {
	case err == nil:
		return survived
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return timedOut
	}
	return killed
}
