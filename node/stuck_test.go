package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
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
		if left := r.all(); len(left) != 0 {
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
		err := n.running.within(ctx, EndWithin, slog.New(slog.DiscardHandler), func() error {
			defer n.end(cancel, "packet path", func() { <-hang })
			return errors.New("no socket for operators")
		})
		if !errors.Is(err, ErrStuck) || !strings.HasSuffix(err.Error(), ": packet path") {
			t.Errorf("it ends with %v", err)
		}
	})
}

// TestNodeEndsWithoutAPart: a node as it runs ends although one of its parts hangs.
func TestNodeEndsWithoutAPart(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	path := foundAlone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hangs, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(ctx, RunConfig{DataDir: path, Log: slog.New(slog.DiscardHandler), Version: "test", endWithin: 2 * time.Second, BeginAnew: func() {
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
