package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// here is a site whose processes are the test's own.
type here struct{ *oneHost }

func (here) start(_ string, cmd *exec.Cmd) error { return cmd.Start() }

// newScripted is a demo whose processes are a line of shell; $1 is their first argument.
func newScripted(t *testing.T, said *bytes.Buffer, line string) (s *stage, prepare func() error) {
	t.Helper()
	s = newStage(Config{Nodes: MinNodes, Seconds: MinSeconds, Rate: MinRate, Stdout: said, Stderr: said})
	dir := t.TempDir()
	program := filepath.Join(dir, "meshcrypt")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+line+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s, func() error {
		err := s.settle(here{&oneHost{port: 30000}}, dir)
		s.company.binary = program
		return err
	}
}

const founds = `echo '{"token": "mct1"}'; `

// TestEndedDaemonIsNotWaitedFor: a demo whose daemon ends, before it has founded a mesh or after,
// says so with its exit status and, once, its last words. It waited for a minute, and said that
// the founder's arbiter was not there in time.
func TestEndedDaemonIsNotWaitedFor(t *testing.T) {
	for what, line := range map[string]string{
		"at once":        `echo "the port is taken" >&2; exit 3`,
		"with a mesh":    `[ "$1" = init ] && ` + founds + `echo "the port is taken" >&2; exit 3`,
		"a moment later": founds + `echo "the port is taken" >&2; sleep 0.3; exit 3`,
	} {
		var said bytes.Buffer
		s, prepare := newScripted(t, &said, line)
		ctx, cancel := context.WithTimeout(t.Context(), BuildTimeout/2) // which who waits does not outlast
		passed, err := s.judge(ctx, prepare)
		cancel()
		var failed *Failed
		var ended *gone
		if passed || !errors.As(err, &failed) || !errors.As(err, &ended) || *ended != (gone{nodeName(0), "exit status 3"}) {
			t.Errorf("%s: %v, %v", what, passed, err)
		}
		if all := said.String() + err.Error(); strings.Count(all, "the port is taken") != 1 {
			t.Errorf("%s: said %s", what, all)
		}
		s.company.wait()
	}
}

// TestEndedDaemonIsLast: its last words stand next to the error, whatever began after it.
func TestEndedDaemonIsLast(t *testing.T) {
	var said bytes.Buffer
	s, prepare := newScripted(t, &said, `echo "I am $1" >&2; [ "$1" = stays ] && exec sleep 60; exit 2`)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); s.company.wait() }()
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	ends, err := s.begin(ctx, "n1", nil, "ends")
	if err != nil {
		t.Fatal(err)
	}
	stays, err := s.begin(ctx, "n2", nil, "stays")
	if err != nil {
		t.Fatal(err)
	}
	<-ends.done
	if s.showLogs(); !strings.HasSuffix(said.String(), "I am ends\n") || strings.Count(said.String(), "last lines of") != 2 {
		t.Errorf("said %s", said.String())
	}
	if err := s.cause(errors.New("no answer")); err.Error() != "n1 ended by itself: exit status 2" {
		t.Errorf("a step that asked it failed for: %v", err)
	}
	ends.kill() // nothing: it has ended
	if stays.kill(); s.lost() != nil {
		t.Errorf("lost what the demo killed: %v", s.lost())
	}
}

// TestFailedCommandIsSaidOnce: the words of an operator's command that failed are in its log, which
// is shown, and not in the error, too.
func TestFailedCommandIsSaidOnce(t *testing.T) {
	var said bytes.Buffer
	s, prepare := newScripted(t, &said, `echo "that name is taken" >&2; exit 2`)
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	_, err := s.company.run(t.Context(), nodeName(0), "operator", "client", "add", userName)
	if err == nil || err.Error() != "meshcrypt client add: exit status 2" {
		t.Errorf("it failed for: %v", err)
	}
	if s.showLogs(); strings.Count(said.String(), "that name is taken") != 1 {
		t.Errorf("said %s", said.String())
	}
}

// TestEndedDaemonIsNoPass: a mesh that does without one of its nodes was not asked to.
func TestEndedDaemonIsNoPass(t *testing.T) {
	v := good()
	v.ended = &gone{"n2", "exit status 2"}
	if v.judge(); v.Result != "FAIL" || len(v.Problems) != 1 || v.Problems[0] != "n2 ended by itself: exit status 2" {
		t.Errorf("%s, %q", v.Result, v.Problems)
	}
}

// TestTransfersEndWithADaemon: they are not watched for the rest of their time.
func TestTransfersEndWithADaemon(t *testing.T) {
	var said bytes.Buffer
	s, prepare := newScripted(t, &said, `[ "$1" = demo ] && exec sleep 60; exit 2`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer func() { cancel(); s.company.wait() }()
	if err := prepare(); err != nil {
		t.Fatal(err)
	}
	transfer, err := s.company.start(ctx, clientHost, "transfer", nil, "demo", "transfer")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.begin(ctx, nodeName(1), nil, "join"); err != nil {
		t.Fatal(err)
	}
	s.watch(ctx, ctx, transfer, &Verdict{})
	if transfer.ended() || ctx.Err() != nil || !strings.Contains(said.String(), "n2 ended by itself: exit status 2\n") {
		t.Errorf("the transfers ended: %v, %v; said %s", transfer.ended(), ctx.Err(), said.String())
	}
}

// TestFailedLeadsToTheLogs: to those that there are, or to how there will be some.
func TestFailedLeadsToTheLogs(t *testing.T) {
	for logs, want := range map[string]string{"": "meshcrypt demo --logs DIR ", "/kept": "less /kept/*.log "} {
		failed := Config{Logs: logs}.failed(errors.New("n1 ended"))
		if !strings.HasPrefix(failed.Next, want) || failed.Error() != "n1 ended" {
			t.Errorf("--logs %q: %v, next %q", logs, failed, failed.Next)
		}
	}
}
