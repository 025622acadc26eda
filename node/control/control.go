// Package control is the operator's API: the one list of operations, its
// types, a server for a node's unix socket (and, between nodes, for the TLS
// port), and a client. The command line is a client of it and reaches into
// nothing else. The package owns names and encodings; what an operation does
// belongs to node.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Kinds of failure. They are the exit codes of the command line.
const (
	CodeFailed      = 1
	CodeUsage       = 2
	CodeUnreachable = 3
	CodeAuth        = 4
	CodeDenied      = 5
	CodeDegraded    = 6
)

// MaxBody bounds a request, in bytes. MaxAnswer bounds an answer, which may be all of the
// registry.
const (
	MaxBody   = 16 << 20
	MaxAnswer = 512 << 20
)

// Error is a failure an operator can act on: cause and next command.
type Error struct {
	Code  int    `json:"code"`
	Cause string `json:"cause"`
	Next  string `json:"next,omitempty"`
	wraps error
}

// Unwrap gives what the cause was made with (%w), on the side that made it.
func (e *Error) Unwrap() error { return e.wraps }

// Error gives the cause and what to do next.
func (e *Error) Error() string {
	if e.Next == "" {
		return e.Cause
	}
	return e.Cause + "\n  next: " + e.Next
}

// Errorf makes an Error with a next command.
func Errorf(code int, next, format string, args ...any) *Error {
	cause := fmt.Errorf(format, args...)
	return &Error{Code: code, Cause: cause.Error(), Next: next, wraps: errors.Unwrap(cause)}
}

// CodeOf is the exit code for an error; 1 when nobody chose one.
func CodeOf(err error) int {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	default:
		return CodeFailed
	}
}

// envelope carries an answer or an error.
type envelope struct {
	Error  *Error          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Caller says where a request came from.
type Caller int

// The callers, from most to least trusted.
const (
	// CallerLocal is the unix socket: whoever may open it runs this node.
	CallerLocal Caller = iota
	// CallerVoter is another node that is a voter.
	CallerVoter
	// CallerNode is any other member: it may only look.
	CallerNode
)

// Operation answers one request.
type Operation struct {
	// Look marks an operation that changes nothing.
	Look bool
	Do   func(r *http.Request, from Caller, body json.RawMessage) (any, error)
}

// Handle adapts a typed function to an Operation body.
func Handle[In, Out any](do func(r *http.Request, in In) (Out, error)) func(*http.Request, Caller, json.RawMessage) (any, error) {
	return func(r *http.Request, _ Caller, body json.RawMessage) (any, error) {
		var in In
		if len(body) > 0 {
			if err := json.Unmarshal(body, &in); err != nil {
				return nil, Errorf(CodeUsage, "", "malformed request: %v", err)
			}
		}
		return do(r, in)
	}
}
