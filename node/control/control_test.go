package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type greeting struct {
	Name string `json:"name"`
}

// serve offers some operations to one kind of caller on a unix socket.
func serve(t *testing.T, from Caller) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]Operation{
		"greet": {Look: true, Do: Handle(func(_ *http.Request, in greeting) (greeting, error) {
			return greeting{"hello " + in.Name}, nil
		})},
		"token/create": {Do: Handle(func(*http.Request, Nothing) (Nothing, error) { return Nothing{}, nil })},
		"deny": {Look: true, Do: Handle(func(*http.Request, Nothing) (Nothing, error) {
			return Nothing{}, fmt.Errorf("placing: %w", Errorf(CodeDenied, "meshcrypt members", "no room on %d agents", 3))
		})},
		"break": {Look: true, Do: Handle(func(*http.Request, Nothing) (Nothing, error) { return Nothing{}, errors.New("disk on fire") })},
		"who":   {Look: true, Do: func(_ *http.Request, from Caller, _ json.RawMessage) (any, error) { return from, nil }},
	}
	server := &http.Server{Handler: Handler(operations, func(*http.Request) Caller { return from }), ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	return Local(path)
}

func TestCall(t *testing.T) {
	c := serve(t, CallerLocal)
	var out greeting
	if err := c.Call(t.Context(), "greet", greeting{"bob"}, &out); err != nil || out.Name != "hello bob" {
		t.Errorf("%+v, %v", out, err)
	}
	if err := c.Call(t.Context(), "token/create", Nothing{}, nil); err != nil {
		t.Errorf("without an answer: %v", err)
	}
}

// TestCallers: a member that is no voter may look and nothing else.
func TestCallers(t *testing.T) {
	for from, may := range map[Caller]bool{CallerLocal: true, CallerVoter: true, CallerNode: false} {
		c := serve(t, from)
		var seen Caller
		if err := c.Call(t.Context(), "who", Nothing{}, &seen); err != nil || seen != from {
			t.Errorf("caller %d looks: %d, %v", from, seen, err)
		}
		err := c.Call(t.Context(), "token/create", Nothing{}, nil)
		if (err == nil) != may || !may && CodeOf(err) != CodeDenied {
			t.Errorf("caller %d changes the mesh: %v", from, err)
		}
	}
}

func TestErrorsKeepTheirCodeAndNextCommand(t *testing.T) {
	c := serve(t, CallerLocal)
	for name, want := range map[string]struct {
		code        int
		cause, next string
	}{
		"deny":    {CodeDenied, "no room on 3 agents", "meshcrypt members"},
		"break":   {CodeFailed, "disk on fire", ""},
		"unknown": {CodeUsage, `"unknown"`, "meshcrypt version"},
	} {
		err := c.Call(t.Context(), name, Nothing{}, nil)
		if CodeOf(err) != want.code || !strings.Contains(err.Error(), want.cause) || !strings.Contains(err.Error(), want.next) {
			t.Errorf("%s: code %d, %v", name, CodeOf(err), err)
		}
	}
	if err := c.Call(t.Context(), "greet", []int{1}, nil); CodeOf(err) != CodeUsage {
		t.Errorf("a malformed request: %v", err)
	}
	if CodeOf(nil) != 0 || CodeOf(errors.New("x")) != CodeFailed {
		t.Error("codes of plain errors")
	}
}

func TestOnlyPostIsAnOperation(t *testing.T) {
	c := serve(t, CallerLocal)
	for _, path := range []string{"/v1/greet", "/greet", "/"} {
		response, err := c.http.Get("http://meshcrypt" + path)
		if err != nil {
			t.Fatal(err)
		}
		var reply envelope
		if err := json.NewDecoder(response.Body).Decode(&reply); err != nil || reply.Error == nil || reply.Error.Code != CodeUsage {
			t.Errorf("GET %s: %+v, %v", path, reply, err)
		}
		response.Body.Close()
	}
}

func TestBodyLimit(t *testing.T) {
	c := serve(t, CallerLocal)
	overhead := len(`{"name":""}`)
	if err := c.Call(t.Context(), "greet", greeting{strings.Repeat("x", MaxBody-overhead+1)}, nil); err == nil {
		t.Error("I10: one byte beyond the limit is served")
	}
	if err := c.Call(t.Context(), "token/create", greeting{strings.Repeat("x", MaxBody-overhead)}, nil); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	var out greeting
	if err := c.Call(t.Context(), "greet", greeting{strings.Repeat("x", MaxBody-overhead)}, &out); err != nil || len(out.Name) < MaxBody-overhead {
		t.Errorf("a longer answer: %d bytes, %v", len(out.Name), err)
	}
}

// TestNoArbiter: an operator reads what happened, whether anything was asked for, and what
// to look at, and no words of a library.
func TestNoArbiter(t *testing.T) {
	fails := func(err error) func(context.Context) (net.Conn, error) {
		return func(context.Context) (net.Conn, error) { return nil, err }
	}
	silent := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		go io.Copy(io.Discard, there)
		return here, nil
	}
	ends := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		go func() { _, _ = there.Read(make([]byte, 1)); there.Close() }()
		return here, nil
	}
	gone := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		there.Close()
		return here, nil
	}
	for _, c := range []struct {
		dial func(context.Context) (net.Conn, error)
		want string
	}{
		{fails(context.DeadlineExceeded), "no arbiter answers (no word from it in time), so nothing was done"},
		{fails(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), "no arbiter answers (connection refused), so nothing"},
		{fails(errors.New("its clock is wrong")), "no arbiter answers (its clock is wrong), so nothing"},
		{silent, "the arbiter was asked and gave no answer (no word from it in time)"},
		{ends, "the arbiter was asked and gave no answer (it ended the connection)"},
		{gone, "the arbiter was asked and gave no answer (it ended the connection)"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := NewClient(c.dial).Call(ctx, "status", Nothing{}, nil)
		cancel()
		var said *Error
		if !errors.As(err, &said) || said.Code != CodeUnreachable || !strings.HasPrefix(said.Cause, c.want) || !strings.Contains(said.Next, "meshcrypt status") {
			t.Errorf("want %q, it says %+v", c.want, said)
		}
		for _, word := range []string{"context", "dial", "EOF", "http"} {
			if strings.Contains(err.Error(), word) {
				t.Errorf("%q in %q", word, err)
			}
		}
	}
}

func TestUnreachable(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	err := Local(missing).Call(t.Context(), "status", Nothing{}, nil)
	if CodeOf(err) != CodeUnreachable || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "meshcrypt run") {
		t.Errorf("no daemon: %v", err)
	}
	dial := func(err error) *Client {
		return NewClient(func(context.Context) (net.Conn, error) { return nil, err })
	}
	locked := dial(os.ErrPermission)
	locked.socket = missing
	if err := locked.Call(t.Context(), "status", Nothing{}, nil); CodeOf(err) != CodeUnreachable || !strings.Contains(err.Error(), "permission") {
		t.Errorf("no permission: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	silent, err := net.Listen("unix", missing)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	err = Local(missing).Call(ctx, "status", Nothing{}, nil)
	if CodeOf(err) != CodeUnreachable || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a daemon that stands still: %v", err)
	}
	if err := dial(nil).Call(t.Context(), "status", make(chan int), nil); err == nil {
		t.Error("a request that is no JSON was sent")
	}
}
