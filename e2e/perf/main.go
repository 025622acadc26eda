// Command perf measures meshcrypt beside wireguard-go: the same hosts, links,
// hops and inner MTU, alternated round by round, on one machine. It owns the
// rig and the report. It prints what it saw, as the README's table too, and
// says which of the ratios to hold were missed; with -must that is its exit
// code.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// wireguardModule is the peer, pinned.
const wireguardModule = "golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446"

// options are the flags.
type options struct {
	rounds  int
	seconds int
	cc      string
	modes   string
	lines   string
	binary  string
	other   string
	peer    string
	keep    string
	must    bool
}

func main() { os.Exit(start()) }

func start() int {
	var o options
	flag.IntVar(&o.rounds, "rounds", 7, "rounds of each line; the first is dropped")
	flag.IntVar(&o.seconds, "seconds", 4, "length of one measurement")
	flag.StringVar(&o.cc, "cc", "cubic", "TCP congestion control of the measured stream")
	flag.StringVar(&o.modes, "modes", "veth,wire", "veth, wire (the links split packets as a network card's driver would) or both")
	flag.StringVar(&o.lines, "lines", "gateway,two,entered", "what to compare: "+strings.Join(lineNames(), ", "))
	flag.StringVar(&o.binary, "binary", "", "meshcrypt to measure (default: built now, without the tag of the nonce oracle)")
	flag.StringVar(&o.other, "other", "", "another build of meshcrypt: the lines compare with it, and with themselves, in place of their B (-rounds 11)")
	flag.StringVar(&o.peer, "wireguard", "", "wireguard-go to measure (default: "+wireguardModule+", built into the user's cache)")
	flag.StringVar(&o.keep, "keep", "", "directory for logs that outlive the run")
	flag.BoolVar(&o.must, "must", false, "exit 1 when a ratio that is to hold is missed")
	flag.Parse()
	if !lab.Entered() {
		// Builds may need the network, which the namespaces do not have.
		if err := o.build(); err != nil {
			fmt.Fprintln(os.Stderr, "perf:", err)
			return 1
		}
		os.Args = append(os.Args[:1], o.args()...)
	}
	return lab.Enter(func() int { return o.run(os.Stdout) })
}

// args are the flags for the program's second start.
func (o options) args() []string {
	return []string{
		fmt.Sprint("-rounds=", o.rounds), fmt.Sprint("-seconds=", o.seconds), "-cc=" + o.cc, "-modes=" + o.modes,
		"-lines=" + o.lines, "-binary=" + o.binary, "-other=" + o.other, "-wireguard=" + o.peer, "-keep=" + o.keep, fmt.Sprint("-must=", o.must),
	}
}

// build makes the programs that were not given.
func (o *options) build() error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(cache, "meshcrypt-perf")
	if o.peer == "" {
		_, version, _ := strings.Cut(wireguardModule, "@")
		o.peer = filepath.Join(dir, version, "wireguard")
		if _, err := os.Stat(o.peer); errors.Is(err, os.ErrNotExist) {
			if err := tool([]string{"GOBIN=" + filepath.Dir(o.peer)}, "go", "install", wireguardModule); err != nil {
				return err
			}
		}
	}
	if o.binary == "" && o.lines != lineWireguard {
		o.binary = filepath.Join(dir, "meshcrypt")
		return tool([]string{"CGO_ENABLED=0"}, "go", "build", "-buildvcs=false", "-trimpath", "-o", o.binary, "./cmd/meshcrypt")
	}
	return nil
}

func tool(env []string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// run measures everything asked for and gives the exit code.
func (o options) run(out io.Writer) (code int) {
	b := &bench{options: o, out: out}
	defer b.cleanup()
	defer func() {
		if failed, ok := recover().(failure); ok {
			fmt.Fprintln(os.Stderr, "perf:", string(failed))
			code = 1
		}
	}()
	for mode := range strings.SplitSeq(o.modes, ",") {
		b.mode(mode)
	}
	if o.other != "" {
		return 0
	}
	table(out, b.results)
	if verdict(out, b.results) > 0 && o.must {
		return 1
	}
	return 0
}

// failure ends a run from wherever it is found out.
type failure string

// bench is one run of the program. It is the lab's T.
type bench struct {
	options
	out      io.Writer
	cleanups []func()
	worlds   int
	results  []result
}

var _ lab.T = (*bench)(nil)

// Helper does nothing: there are no line numbers to hide.
func (b *bench) Helper() {}

// Fatalf ends the run.
func (b *bench) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// Logf talks.
func (b *bench) Logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Cleanup keeps f for the end of the world.
func (b *bench) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }

func (b *bench) cleanup() {
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
	b.cleanups = nil
}

// mode measures the lines asked for on one kind of link.
func (b *bench) mode(mode string) {
	if mode != modeVeth && mode != modeWire {
		b.Fatalf("-modes: %q is neither %s nor %s", mode, modeVeth, modeWire)
	}
	for name := range strings.SplitSeq(b.lines, ",") {
		l, ok := lines()[name]
		if !ok {
			b.Fatalf("-lines: no line is named %q; there are %s", name, strings.Join(lineNames(), ", "))
		}
		begin := time.Now()
		if b.other != "" {
			b.compareBuilds(name, l.a, mode)
		} else {
			b.compare(name, l, mode)
		}
		b.Logf("%s, %s: %.0f s", name, mode, time.Since(begin).Seconds())
		b.cleanup()
	}
}
