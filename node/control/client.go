package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"syscall"
)

// Client calls operations over some connection.
type Client struct {
	http   *http.Client
	socket string
}

// NewClient calls over connections that dial makes.
func NewClient(dial func(ctx context.Context) (net.Conn, error)) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableKeepAlives: true,
	}}}
}

// Local calls the daemon behind a unix socket.
func Local(socket string) *Client {
	c := NewClient(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	})
	c.socket = socket
	return c
}

// Call runs one operation and decodes its answer into out, which may be nil.
func (c *Client) Call(ctx context.Context, name string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://meshcrypt/v1/"+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	asked := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { asked = true }}
	response, err := c.http.Do(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		return c.unreachable(asked, err)
	}
	defer response.Body.Close()
	var reply envelope
	if err := json.NewDecoder(io.LimitReader(response.Body, MaxAnswer)).Decode(&reply); err != nil {
		return Errorf(CodeUnreachable, "meshcrypt status", "the answer broke off (%s)", reason(err))
	}
	if reply.Error != nil {
		return reply.Error
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(reply.Result, out)
}

func (c *Client) unreachable(asked bool, err error) error {
	switch {
	case c.socket == "" && asked:
		return Errorf(CodeUnreachable, "meshcrypt status says what the mesh lacks; once it names an arbiter, look whether it happened, else the same command again",
			"the arbiter was asked and gave no answer (%s): if this was to change something, that may have happened or may yet happen", reason(err))
	case c.socket == "":
		return Errorf(CodeUnreachable, "meshcrypt status says what the mesh lacks; once it names an arbiter: meshcrypt members, and the same command again",
			"no arbiter answers (%s), so nothing was done: its host is off, stands still, or cannot be reached from this one; "+
				"another is elected within seconds where most of the voters are well", reason(err))
	case errors.Is(err, os.ErrPermission):
		return Errorf(CodeUnreachable, "sudo meshcrypt ...", "no permission to open %s", c.socket)
	case errors.Is(err, context.DeadlineExceeded):
		return Errorf(CodeUnreachable, "look whether it is stopped (STAT T in ps -C meshcrypt -o pid,stat,args) or the host is short of CPU or memory; "+
			"kill -9 and meshcrypt run begin it anew", "the daemon at %s is there and does not answer: %w", c.socket, context.DeadlineExceeded)
	default:
		return Errorf(CodeUnreachable, "start it with meshcrypt run, or name its --data-dir",
			"no daemon answers at %s", c.socket)
	}
}

// reason is what became of a connection, in an operator's words.
func reason(err error) string {
	var timeout interface{ Timeout() bool }
	var errno syscall.Errno
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no word from it in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return "it ended the connection"
	}
	// The address that a request names is made up: what became of the connection is all.
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return err.Error()
}
