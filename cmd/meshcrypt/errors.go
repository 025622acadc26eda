package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/meshcrypt/meshcrypt/cmd/meshcrypt/demo"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// failure is what an operator is told: cause, next command, exit code.
type failure struct {
	cause, next string
	code        int
}

// exit ends with a code and no words: what there is to say was printed.
type exit int

func (exit) Error() string { return "" }

// usageError marks an error of cobra as one of the command line.
func usageError(command string, err error) error {
	var chosen *control.Error
	if errors.As(err, &chosen) {
		return err
	}
	return usage(command+" --help", "%v", err)
}

// explain finds the words and the code for an error.
func explain(err error) failure {
	var silent exit
	var chosen *control.Error
	var shut *node.Shut
	switch {
	case err == nil:
		return failure{}
	case errors.As(err, &shut):
		f := explain(shut.Why)
		f.cause = shut.Error()
		if errors.Is(err, client.ErrRevoked) { // to try again is of no use
			f.next = "meshcrypt disconnect to reach those networks without the tunnel; " + f.next
			return f
		}
		f.next = "meshcrypt connect to try again, or meshcrypt disconnect to reach those networks without the tunnel; " + f.next
		return f
	case errors.As(err, &silent):
		return failure{code: int(silent)}
	case errors.As(err, &chosen):
		return failure{chosen.Cause, chosen.Next, chosen.Code}
	}
	var refusal *client.Refusal
	if errors.As(err, &refusal) {
		return refused(refusal)
	}
	for _, k := range knownFailures() {
		if errors.Is(err, k.is) {
			return failure{oneLine(err), k.next, k.code}
		}
	}
	if _, ok := errors.AsType[foreground](err); ok {
		return failure{oneLine(err), "the same command with --log-level debug says more; what it logged so far is above", control.CodeFailed}
	}
	return failure{oneLine(err), "meshcrypt status, and the log of the daemon", control.CodeFailed}
}

// foreground marks the error of a daemon or a client that was this very process: there is none
// to ask, and its log went where these words go.
type foreground struct{ error }

// Unwrap gives the error itself.
func (f foreground) Unwrap() error { return f.error }

func inForeground(err error) error {
	if err == nil {
		return nil
	}
	return foreground{err}
}

// oneLine says what several attempts failed for, each cause once: they often fail alike.
func oneLine(err error) string {
	var all []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSpace(line)
		said := func(before string) bool { return strings.HasSuffix(before, line) }
		if !slices.ContainsFunc(all, said) && line != "" {
			all = append(all, line)
		}
	}
	return strings.Join(all, "; ")
}

// knownFailure is what to do about one sentinel.
type knownFailure struct {
	is   error
	code int
	next string
}

// knownFailures are in order of precedence: the first that matches decides.
func knownFailures() []knownFailure {
	// An arbiter whose clock the other voters do not share has given way.
	const setClock = "date: set this host's clock if it is wrong (timedatectl set-ntp true); if it is right, meshcrypt status on a member names whose is wrong"
	const newToken = "meshcrypt token create on a member prints a new token"
	return append(nodeFailures(newToken), []knownFailure{
		{pki.ErrToken, control.CodeUsage, newToken},
		{pki.ErrHash, control.CodeUsage, "meshcrypt client profile NAME on a member prints the CA hash"},
		{pki.ErrAuthority, control.CodeAuth, "that is another mesh than the CA hash names: check the address, or get a profile of that mesh: meshcrypt client profile NAME on a member"},
		{pki.ErrNotYetValid, control.CodeAuth, setClock},
		{pki.ErrExpired, control.CodeAuth, setClock},
		{datadir.ErrNoState, control.CodeUsage, "meshcrypt init founds a mesh, meshcrypt join <peer> enters one"},
		{datadir.ErrState, control.CodeUsage, "meshcrypt run"},
		{datadir.ErrLocked, control.CodeFailed, "meshcrypt status asks the daemon that holds it"},
		{datadir.ErrDamaged, control.CodeFailed, "restore the file from a copy, or let another member remove this node and join anew"},
		{node.ErrClientRuns, control.CodeFailed, "meshcrypt disconnect ends it, meshcrypt status --client shows it"},
		{host.ErrDamaged, control.CodeFailed, "meshcrypt disconnect removes what a client left, its state file too"},
		{client.ErrProfile, control.CodeUsage, "meshcrypt client profile NAME on a member prints a good one"},
		{client.ErrUnreachable, control.CodeUnreachable, "see that the profile's gateways are reachable on TCP and UDP; meshcrypt status on a member tells the rest"},
		{client.ErrHeadless, control.CodeUnreachable, "meshcrypt status on a member tells what the mesh lacks"},
		{client.ErrRevoked, control.CodeDenied, "ask the mesh's operator: meshcrypt client enable NAME on a member lets a client connect again, meshcrypt ca issue makes another certificate"},
		{client.ErrEnded, control.CodeDenied, "meshcrypt sessions --ended on a member tells who ended it"},
		{auth.ErrUser, control.CodeUsage, "use letters, digits, dot, dash, underscore"},
		{auth.ErrPassword, control.CodeUsage, "give a password by --password-file or at the prompt"},
		{auth.ErrWeakKey, control.CodeUsage, "head -c 32 /dev/urandom | base64 > FILE makes a good one"},
		{auth.ErrMesh, control.CodeAuth, "whoever answers has the mesh's CA, but not your key: tell the mesh's operator"},
		{pki.ErrKey, control.CodeUsage, "use a key that is Ed25519, ECDSA on P-256 or P-384, or RSA of 2048 bits or more"},
		{auth.ErrDenied, control.CodeAuth, "check user and password; meshcrypt client list on a member shows who may connect"},
		{syscall.EADDRINUSE, control.CodeFailed, "ss -lntup shows who holds the port; choose another, for a node by --listen, for a proxy by --proxy"},
		{syscall.ENOSPC, control.CodeFailed, "free space there, or choose another --data-dir; then the same command again"},
		{syscall.EROFS, control.CodeFailed, "mount it for writing, or choose another --data-dir; then the same command again"},
		{fs.ErrPermission, control.CodeFailed, "run as root, or give the binary CAP_NET_ADMIN and choose a --data-dir of your own"},
		{context.DeadlineExceeded, control.CodeUnreachable, "meshcrypt status"},
		{demo.ErrInterrupted, control.CodeFailed, ""},
		{context.Canceled, control.CodeFailed, ""},
	}...)
}

// refused translates an arbiter's no to a client.
func refused(r *client.Refusal) failure {
	f := refusedBy(r)
	f.next = cmp.Or(r.Next, f.next)
	return f
}

func refusedBy(r *client.Refusal) failure {
	switch r.Code {
	case protocol.RefusedAuth:
		if r.Wait > 0 {
			return failure{r.Error(), fmt.Sprintf("sleep %d, and the same command; somebody here has tried wrong ones", r.Wait), control.CodeAuth}
		}
		return failure{r.Error(), "check user and credential; meshcrypt client list and meshcrypt ca show on a member tell who may connect, and how", control.CodeAuth}
	case protocol.RefusedPolicy:
		return failure{r.Error(), "ask the mesh's operator: meshcrypt client list", control.CodeDenied}
	case protocol.RefusedCapacity:
		return failure{r.Error(), "ask for less with --bandwidth, or let another host join", control.CodeDenied}
	case protocol.RefusedRetry:
		return failure{r.Error(), "run the same command again; meshcrypt status on a member tells what the mesh lacks", control.CodeUnreachable}
	default:
		return failure{r.Error(), "run meshcrypt connect again", control.CodeFailed}
	}
}
