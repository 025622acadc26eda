package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// company is the demo's processes: where they live and what they wrote.
type company struct {
	site   site
	binary string
	dir    string // everything they write, but logs
	logs   string

	running sync.WaitGroup

	mu    sync.Mutex // protects names
	names []string   // of everything ever started, in order
}

// process is one running child.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why; to be read after done

	killed bool // by the demo; owned by the goroutine of play
}

// gone is a process that was to stay and has ended by itself: what waits for it waits in vain.
type gone struct{ name, how string }

// Error is one line; the last words are in the log.
func (g *gone) Error() string { return g.name + " ended by itself: " + g.how }

// gone is said of a process that has ended.
func (p *process) gone() *gone { return &gone{p.name, p.cmd.ProcessState.String()} }

// start runs this binary in a host's namespace. Its stderr goes to a log, its
// stdout to out, or to the log too when out is nil.
func (c *company) start(ctx context.Context, host, name string, out func(io.Reader), args ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(c.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd := exec.CommandContext(ctx, c.binary, args...)
	cmd.Env = environment(os.Environ())
	cmd.Dir = c.dir
	cmd.Stdout, cmd.Stderr = log, log
	var pipe io.ReadCloser
	if out != nil {
		cmd.Stdout = nil
		if pipe, err = cmd.StdoutPipe(); err != nil {
			return nil, err
		}
	}
	if err := c.site.start(host, cmd); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c.note(name)
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	c.running.Go(func() {
		defer close(p.done)
		if out != nil {
			out(pipe)
		}
		p.err = cmd.Wait()
	})
	return p, nil
}

// wait returns when all processes have ended.
func (c *company) wait() { c.running.Wait() }

func (c *company) note(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.names, name) {
		c.names = append(c.names, name)
	}
}

// run starts a process and waits for its end; its stdout is the answer.
func (c *company) run(ctx context.Context, host, name string, args ...string) (string, error) {
	var text []byte
	p, err := c.start(ctx, host, name, func(r io.Reader) { text, _ = io.ReadAll(io.LimitReader(r, maxLine)) }, args...)
	if err != nil {
		return "", err
	}
	<-p.done
	if p.err != nil {
		return "", fmt.Errorf("meshcrypt %s: %w", strings.Join(args[:2], " "), p.err)
	}
	return string(text), nil
}

// kill ends a process as a power cut would.
func (p *process) kill() {
	p.killed = true
	// One that has ended already is what was wanted.
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// environment keeps the user's own settings of meshcrypt out of the demo.
func environment(all []string) []string {
	return append(slices.DeleteFunc(slices.Clone(all), func(kv string) bool {
		return strings.HasPrefix(kv, "MESHCRYPT_")
	}), "MESHCRYPT_CONFIG="+os.DevNull)
}

// tail is the last lines of a process's log.
func (c *company) tail(name string, lines int) string {
	text, err := os.ReadFile(filepath.Join(c.logs, name+".log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// showLogs prints the end of every log, once: what is said of one afterwards stands below it,
// so the one that ended by itself, if any, is last.
func (c *company) showLogs(w io.Writer, last string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.DeleteFunc(slices.Clone(c.names), func(name string) bool { return name == last })
	if len(names) < len(c.names) {
		names = append(names, last)
	}
	for _, name := range names {
		fmt.Fprintf(w, "--- last lines of %s\n%s\n", name, c.tail(name, lastLines))
	}
}

// lines calls do with each line until the reader ends.
func lines(r io.Reader, do func([]byte)) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(make([]byte, 0, 4096), maxLine)
	for scanner.Scan() {
		do(scanner.Bytes())
	}
}

// until asks again and again until the answer is nil, time is up, or what is waited for is gone.
func until(ctx context.Context, what string, limit time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if ended, ok := errors.AsType[*gone](err); ok {
			return ended
		}
		if sleep(ctx, pollEvery) != nil {
			return fmt.Errorf("%s: not within %s: %w", what, limit, err)
		}
	}
}
