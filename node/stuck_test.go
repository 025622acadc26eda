package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/descriptors"
)

// TestEndIsBounded: a daemon waits EndWithin for its parts from when they are to end, and
// names the one that does not.
func TestEndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r running
		var log bytes.Buffer
		hang := make(chan struct{})
		defer close(hang)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, cancel)
		began := time.Now()
		err := r.within(ctx, EndWithin, slog.New(slog.NewTextHandler(&log, nil)), func() error {
			r.do("packet path", func() {})
			r.do("log", func() { <-hang })
			return nil
		})
		if !errors.Is(err, ErrStuck) || !strings.HasSuffix(err.Error(), ": log") {
			t.Errorf("it ends with %v", err)
		}
		if took := time.Since(began); took != time.Hour+EndWithin {
			t.Errorf("it ended after %v", took)
		}
		if said := log.String(); !strings.Contains(said, "parts=[log]") || !strings.Contains(said, "TestEndIsBounded") {
			t.Errorf("the log does not say where it stands: %s", said)
		}
	})
}

// TestEndOfParts: a daemon whose parts end does so with them, and with their error.
func TestEndOfParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r running
		for told, failed := range map[bool]error{true: nil, false: ErrLeft} {
			ctx, cancel := context.WithCancel(t.Context())
			if told {
				cancel()
			}
			began := time.Now()
			err := r.within(ctx, EndWithin, slog.New(slog.DiscardHandler), func() error {
				r.do("goodbye of gossip", func() { <-time.After(EndWithin / 2) })
				return failed
			})
			if took := time.Since(began); err != failed || took != EndWithin/2 {
				t.Errorf("it ended with %v after %v", err, took)
			}
			cancel()
		}
		if left, _ := r.all(); len(left) != 0 {
			t.Errorf("%v run still", left)
		}
	})
}

// TestStartThatFailsIsBounded: a part hangs that is closed because a later one could not be opened.
func TestStartThatFailsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Node
		hang := make(chan struct{})
		defer close(hang)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := n.running.within(ctx, EndWithin, slog.New(slog.DiscardHandler), func() (err error) {
			defer n.end(cancel, &err, "packet path", func() { <-hang })
			return errors.New("no socket for operators")
		})
		if !errors.Is(err, ErrStuck) || !strings.HasSuffix(err.Error(), ": packet path") || !strings.HasPrefix(err.Error(), "no socket") {
			t.Errorf("it ends with %v", err)
		}
	})
}

// TestStuckEndSaysWhyItEnds: the first reason counts, whichever part hangs.
func TestStuckEndSaysWhyItEnds(t *testing.T) {
	for _, why := range []error{ErrLeft, errSuperseded, nil} {
		synctest.Test(t, func(t *testing.T) {
			var r running
			hang := make(chan struct{})
			defer close(hang)
			ctx, cancel := context.WithCancel(t.Context())
			err := r.within(ctx, EndWithin, slog.New(slog.DiscardHandler), func() error {
				defer r.do("log", func() { <-hang })
				defer r.endsFor(errors.New("the log did not end either"))
				defer cancel()
				r.endsFor(why)
				return why
			})
			if !errors.Is(err, ErrStuck) || why != nil && !errors.Is(err, why) || strings.Contains(err.Error(), "either") != (why == nil) {
				t.Errorf("%v: it ends with %v", why, err)
			}
		})
	}
}

// stuck is the node of a data directory as it runs, of which one part never ends.
type stuck struct {
	*testing.T
	*Node
	said  *journal
	ended chan error
	anew  chan struct{} // it began anew, to stand aside
}

// asideSays is the line of a node that stands aside.
const asideSays = "another host runs with this node's key: this one carries nothing any more"

func newStuck(t *testing.T, path string) *stuck {
	t.Helper()
	s := &stuck{T: t, said: &journal{said: make(map[string]int)}, ended: make(chan error, 1), anew: make(chan struct{}, 1)}
	hangs := make(chan struct{})
	dir, err := datadir.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	reserve := descriptors.SetAside()
	anew := func(aside bool) {
		if aside {
			s.anew <- struct{}{}
			return
		}
		close(hangs)
		<-make(chan struct{})
	}
	s.Node, err = newNode(RunConfig{DataDir: path, Log: newLogger(s.said), Version: "test", endWithin: 2 * time.Second, BeginAnew: anew}, dir, reserve)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { s.ended <- s.live(ctx) }()
	cloned(t, hangs, s.ended)
	return s
}

// await waits until a line was said.
func (j *journal) await(t *testing.T, line string) {
	t.Helper()
	for deadline := time.Now().Add(hangLimit); j.count(line) == 0; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %q, but %v", line, j.all())
		}
	}
}

// end is how the node ended.
func (s *stuck) end() (err error) {
	s.Helper()
	select {
	case err = <-s.ended:
	case <-time.After(hangLimit):
		s.Fatal("it does not end")
	}
	return err
}

// TestNodeEndsWithoutAPart: a node as it runs ends although one of its parts hangs.
func TestNodeEndsWithoutAPart(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	path := foundAlone(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hangs, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, RunConfig{DataDir: path, Log: slog.New(slog.DiscardHandler), Version: "test", endWithin: 2 * time.Second, BeginAnew: func(bool) {
			close(hangs)
			<-make(chan struct{})
		}})
	}()
	cloned(t, hangs, ended)
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrStuck) || !strings.Contains(err.Error(), "watch for clones") {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(hangLimit):
		t.Fatal("it does not end")
	}
}

// TestStuckNodeThatLeft: it forgets its membership, gives the host back, and has left for
// whoever started it, though a part of it hangs.
func TestStuckNodeThatLeft(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	s := newStuck(t, foundAlone(t, false))
	s.said.await(t, "node is running")
	if !routesOurs(t) {
		t.Fatal("it has no route of its own: this test shows nothing")
	}
	s.leave("test")
	if err := s.end(); !errors.Is(err, ErrLeft) || !errors.Is(err, ErrStuck) {
		t.Errorf("it ends with %v", err)
	}
	_, kept := os.Stat(s.dir.Path(datadir.HostFile))
	if s.dir.HasNode() || !errors.Is(kept, os.ErrNotExist) || routesOurs(t) {
		t.Errorf("it is a member: %t, has the host's settings: %v, its routes: %t", s.dir.HasNode(), kept, routesOurs(t))
	}
}

// routesOurs reports whether this host has routes that a daemon made.
func routesOurs(t *testing.T) bool {
	t.Helper()
	out, err := exec.Command("ip", "route", "show", "table", "all", "proto", "109").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return len(out) > 0
}

// TestStuckNodeStandsAsideAnew: a process of which a part hangs may carry something still, so
// that a fresh one stands aside in its place.
func TestStuckNodeStandsAsideAnew(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	s := newStuck(t, foundAlone(t, true))
	s.said.await(t, "node is running")
	s.superseded()
	if err := s.end(); !errors.Is(err, errSuperseded) || !errors.Is(err, ErrStuck) || len(s.anew) == 0 {
		t.Errorf("it ends with %v, and began anew: %t", err, len(s.anew) > 0)
	}
	if s.said.count(asideSays) > 0 {
		t.Error("it stands aside itself")
	}
}

// TestStuckNodeSaysWhyItFailed: a start that fails does so for its own reason, before anything
// was opened and after.
func TestStuckNodeSaysWhyItFailed(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	taken, err := net.Listen("tcp", ":6484")
	if err != nil {
		t.Fatal(err)
	}
	if err := newStuck(t, foundAlone(t, true)).end(); !errors.Is(err, syscall.EADDRINUSE) || !errors.Is(err, ErrStuck) {
		t.Errorf("without its port it ends with %v", err)
	}
	taken.Close()
	path := foundAlone(t, true)
	if err := os.MkdirAll(filepath.Join(path, datadir.SocketName, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := newStuck(t, path).end(); !errors.Is(err, syscall.ENOTEMPTY) || !errors.Is(err, ErrStuck) {
		t.Errorf("without its socket it ends with %v", err)
	}
}

// TestStandsAsideFromTheStart: a node that is told to carries nothing, and says so until it is
// told to end.
func TestStandsAsideFromTheStart(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	path := foundAlone(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &journal{said: make(map[string]int)}
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, RunConfig{DataDir: path, Log: newLogger(said), Version: "test", Aside: true})
	}()
	said.await(t, asideSays)
	if said.count("node is running") > 0 {
		t.Error("it runs")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
