// Package demo plays a mesh on one machine: nodes, a client and a web server as
// real processes of this binary, each in a network namespace of its own, or all
// on loopback addresses where a machine refuses those (site). It moves a
// download and an upload through the mesh, kills the busiest agent on the way,
// heals it, and judges what came out.
//
// The package owns the namespaces, the processes and the verdict. It does not
// own a line of the mesh itself: it sees that only as a user does, through the
// command line and the operator's socket.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// Config is what a demo is told.
type Config struct {
	Seconds int    // how long the transfers last
	Nodes   int    // of the mesh
	Rate    uint64 // of each transfer, bit/s
	Keep    bool   // open a shell afterwards
	JSON    bool   // verdict as JSON
	Logs    string // directory that keeps the processes' logs; empty: none

	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// ErrInterrupted is how Run ends when it was told to.
var ErrInterrupted = errors.New("demo: interrupted, and nothing was left behind")

// Failed is a demo that did not come to PASS.
type Failed struct {
	Cause error  // nil: the verdict has said it
	Next  string // how to see more
}

// Error gives the cause; Next stands apart.
func (f *Failed) Error() string {
	if f.Cause == nil {
		return "the demo did not pass"
	}
	return f.Cause.Error()
}

// Unwrap gives the cause.
func (f *Failed) Unwrap() error { return f.Cause }

// failed leads to the logs, which are gone with the demo unless they were to be kept.
func (c Config) failed(cause error) *Failed {
	if c.Logs != "" {
		return &Failed{cause, "less " + filepath.Join(c.Logs, "*.log") + " shows all that its processes said"}
	}
	return &Failed{cause, "meshcrypt demo --logs DIR keeps there all that its processes say"}
}

// Check names what cannot be played.
func (c Config) Check() error {
	switch {
	case c.Seconds < MinSeconds || c.Seconds > MaxSeconds:
		return fmt.Errorf("--seconds %d: want %d to %d", c.Seconds, MinSeconds, MaxSeconds)
	case c.Nodes < MinNodes || c.Nodes > MaxNodes:
		return fmt.Errorf("--nodes %d: want %d to %d", c.Nodes, MinNodes, MaxNodes)
	case c.Rate < MinRate || c.Rate > MaxRate:
		return fmt.Errorf("--rate: want %d Mbit/s to %d Gbit/s", MinRate/1_000_000, MaxRate/1_000_000_000)
	}
	return nil
}

// bytes is the size of each transfer.
func (c Config) bytes() uint64 { return c.Rate / 8 * uint64(c.Seconds) }

// Run plays a demo in namespaces of its own. Everything lives below one
// process, the first of a process namespace: when it ends, in whatever way,
// the kernel ends all others, and networks and files go with the namespaces.
func Run(ctx context.Context, c Config) (passed bool, err error) {
	dir, err := os.MkdirTemp("", "meshcrypt-demo-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	// The kernel's death signal follows the thread that started the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stage := exec.CommandContext(ctx, "/proc/self/exe", c.stageArguments(dir)...)
	stage.Cancel = func() error { return stage.Process.Signal(syscall.SIGTERM) }
	stage.WaitDelay = StopTime
	stage.Stdin, stage.Stdout, stage.Stderr = c.Stdin, c.Stdout, c.Stderr
	stage.SysProcAttr = namespaces(os.Geteuid(), os.Getegid())
	err = stage.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ErrInterrupted
	case errors.As(err, &ended) && ended.ExitCode() == codeRefused:
		return c.fallBack(ctx, dir)
	case errors.As(err, &ended) && ended.ExitCode() == 1:
		return false, nil
	case errors.As(err, &ended):
		return false, c.failed(fmt.Errorf("the demo's first process ended: %w", err))
	}
	refused := refusal(err, readSetting)
	refused.tell(c.Stderr)
	return c.fallBack(ctx, dir)
}

// fallBack plays without namespaces, after it was said why.
func (c Config) fallBack(ctx context.Context, dir string) (bool, error) {
	passed, err := playOnOneHost(ctx, c, dir)
	if ctx.Err() != nil {
		return false, ErrInterrupted
	}
	return passed, err
}

func (c Config) stageArguments(dir string) []string {
	args := []string{"demo", "stage", "--dir", dir, "--config", os.DevNull,
		"--seconds", strconv.Itoa(c.Seconds), "--nodes", strconv.Itoa(c.Nodes),
		"--rate", strconv.FormatUint(c.Rate, 10)}
	if c.Keep {
		args = append(args, "--keep")
	}
	if c.JSON {
		args = append(args, "--output", "json")
	}
	if c.Logs != "" {
		args = append(args, "--logs", c.Logs)
	}
	return args
}

// namespaces are new ones of each kind; whoever is not root is root in them alone.
func namespaces(uid, gid int) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	return attr
}

// refusal says what to do on a machine that refuses namespaces.
func refusal(cause error, setting func(name string) string) *Refused {
	next := "run it as root: sudo meshcrypt demo"
	for _, s := range []struct{ name, refused, allowed string }{
		{"kernel.apparmor_restrict_unprivileged_userns", "1", "0"},
		{"kernel.unprivileged_userns_clone", "0", "1"},
		{"user.max_user_namespaces", "0", "15000"},
	} {
		if setting(s.name) == s.refused {
			next = fmt.Sprintf("allow them with: sudo sysctl %s=%s, or run it as root: sudo meshcrypt demo", s.name, s.allowed)
			break
		}
	}
	return &Refused{What: "its own namespaces", Cause: cause, Next: next}
}

// readSetting reads a sysctl; "" if this kernel has none of that name.
func readSetting(name string) string {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
