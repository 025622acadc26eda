// Package lab builds small worlds out of Linux namespaces for tests of whole
// processes: networks, links, processes, captures and measured transfers. It
// needs no root: Enter re-executes the program in namespaces of its own, whose
// end is the end of everything in them. It knows nothing of meshcrypt.
package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits (I10): a world is small and ends.
const (
	maxSpaces    = 64
	maxProcesses = 1024
	commandTime  = 30 * time.Second
	pollEvery    = 100 * time.Millisecond
	// turnMost of a turn of Until counts: what a turn takes longer, the machine
	// has taken. waitMost times its limit is the end in any case.
	turnMost = 400 * time.Millisecond
	waitMost = 4
)

// T is what a world needs of its test; *testing.T has it.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
}

// World is the namespaces and processes of one test. It ends with the test.
type World struct {
	T
	// Dir holds the files of this world.
	Dir string

	number int64 // of this program's worlds: several may live at a time

	mu        sync.Mutex // protects the fields below
	spaces    []*Space
	processes []*Process
	mounts    []func() // end one each
}

var worlds atomic.Int64

// New makes an empty world for the life of t.
func New(t T, dir string) *World {
	t.Helper()
	if !Entered() {
		t.Fatalf("lab: not in namespaces of its own: the program must call lab.Enter first")
	}
	w := &World{T: t, Dir: dir, number: worlds.Add(1)}
	t.Cleanup(w.end)
	return w
}

// end kills what still runs, by its id, and removes mounts and namespaces.
func (w *World) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		p.Kill()
	}
	for _, unmount := range w.mounts {
		unmount()
	}
	for _, s := range w.spaces {
		if out, err := exec.Command("ip", "netns", "del", s.namespace).CombinedOutput(); err != nil {
			w.Logf("lab: ip netns del %s: %v: %s", s.namespace, err, out)
		}
	}
}

// File is a path in the world's directory, whose parents exist.
func (w *World) File(elements ...string) string {
	w.Helper()
	path := filepath.Join(append([]string{w.Dir}, elements...)...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.Fatalf("lab: %v", err)
	}
	return path
}

// Write puts a text into a file of the world and returns its path.
func (w *World) Write(text string, elements ...string) string {
	w.Helper()
	path := w.File(elements...)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.Fatalf("lab: %v", err)
	}
	return path
}

// Space is one network namespace: a host of the world.
type Space struct {
	Name      string // unique in its world
	namespace string // unique in this program
	world     *World
}

// Space makes a host.
func (w *World) Space(name string) *Space {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.spaces) >= maxSpaces {
		w.Fatalf("lab: more than %d namespaces", maxSpaces)
	}
	s := &Space{Name: name, namespace: fmt.Sprintf("%d-%s", w.number, name), world: w}
	if out, err := exec.Command("ip", "netns", "add", s.namespace).CombinedOutput(); err != nil {
		w.Fatalf("lab: ip netns add %s: %v: %s", s.namespace, err, out)
	}
	w.spaces = append(w.spaces, s)
	s.Sh("ip link set lo up")
	return s
}

// Command runs a program on the host; nil env keeps this program's.
func (s *Space) Command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.namespace}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = s.world.Dir
	return cmd
}

// Result is what a finished command left.
type Result struct {
	Code        int
	Out, Stderr string
}

// Try runs a program to its end, for half a minute at most.
func (s *Space) Try(env []string, args ...string) Result {
	s.world.Helper()
	return s.TryFor(commandTime, env, args...)
}

// TryFor is Try with another limit.
func (s *Space) TryFor(limit time.Duration, env []string, args ...string) Result {
	s.world.Helper()
	return run(s.world, s.Command(env, args...), limit)
}

func run(w *World, cmd *exec.Cmd, limit time.Duration) Result {
	w.Helper()
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		w.Fatalf("lab: %v: %v", cmd.Args, err)
	}
	late := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		w.Fatalf("lab: %v: %v", cmd.Args, err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Out: out.String(), Stderr: stderr.String()}
}

// Sh runs lines of shell on the host; each must succeed.
func (s *Space) Sh(format string, args ...any) string {
	s.world.Helper()
	script := fmt.Sprintf(format, args...)
	r := s.Try(nil, "sh", "-euc", script)
	if r.Code != 0 {
		s.world.Fatalf("lab: on %s: %s\nexit %d: %s%s", s.Name, script, r.Code, r.Out, r.Stderr)
	}
	return strings.TrimSpace(r.Out)
}

// Wire joins two hosts by a veth pair.
func (w *World) Wire(a *Space, aName string, b *Space, bName string) {
	w.Helper()
	a.Sh("ip link add %s type veth peer name %s netns %s; ip link set %s up", aName, bName, b.namespace, aName)
	b.Sh("ip link set %s up", bName)
}

// Do runs f in the host's network. Sockets that f makes stay in it; f must not
// start goroutines that make more.
func (s *Space) Do(f func() error) error {
	failed := make(chan error)
	go func() {
		// The thread is not unlocked: it ends with this goroutine, and
		// nobody else ever runs in the wrong network.
		runtime.LockOSThread()
		failed <- s.enter(f)
	}()
	return <-failed
}

// Until asks every tenth of a second, and fails the test when the answer is
// not nil in time; a machine that lets it wait between two questions gets more.
// It gives the time that has passed.
func (w *World) Until(what string, within time.Duration, ask func() error) time.Duration {
	w.Helper()
	begin, counted := time.Now(), time.Duration(0)
	for {
		turn := time.Now()
		err := ask()
		passed := time.Since(begin)
		if err == nil {
			return passed
		}
		if counted > within || passed > waitMost*within {
			w.Fatalf("%s: not within %v, after %v: %v", what, within, passed.Round(time.Millisecond), err)
		}
		time.Sleep(pollEvery)
		counted += min(time.Since(turn), turnMost)
	}
}
