//go:build e2e

package netns

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// refusal is a machine that refuses namespaces, and nobody's directory on it
// with the program.
type refusal struct {
	*lab.World
	t           *testing.T
	dir, binary string
}

func newRefusal(t *testing.T) *refusal {
	t.Helper()
	dir, err := os.MkdirTemp("", "meshcrypt-refused-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &refusal{World: lab.New(t, t.TempDir()), t: t, dir: dir, binary: filepath.Join(dir, "meshcrypt")}
	content, err := os.ReadFile(program(t))
	if err == nil {
		err = os.WriteFile(r.binary, content, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Give(dir)
	return r
}

// demo runs as nobody in a user namespace that may have none below it.
func (r *refusal) demo(args ...string) *exec.Cmd {
	r.Helper()
	return r.demoAfter(`echo 0 >/proc/sys/user/max_user_namespaces`, args...)
}

// demoAfter runs as nobody in a user namespace with as many users as this one, of
// which a line of shell has made something that lacks what a demo needs.
func (r *refusal) demoAfter(shell string, args ...string) *exec.Cmd {
	r.Helper()
	line := append([]string{"-c", shell + ` && exec "$@"`, "sh"}, lab.Unprivileged(append([]string{r.binary, "demo"}, args...)...)...)
	cmd := exec.CommandContext(r.t.Context(), "sh", line...)
	whole := []syscall.SysProcIDMap{{Size: lab.Users()}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: whole, GidMappings: whole, GidMappingsEnableSetgroups: lab.Users() > 1,
	}
	cmd.Dir = r.dir
	cmd.Env = append(cmd.Environ(), "TMPDIR="+r.dir)
	return cmd
}

// verbs are the processes of the program, by what they were told to do.
func (r *refusal) verbs() map[int]string {
	all := make(map[int]string)
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		text, err := os.ReadFile(path)
		args := strings.Split(string(text), "\x00")
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && args[0] == r.binary && len(args) > 2 && id > 0 {
			all[id] = strings.TrimPrefix(args[1]+" "+args[2], "demo ")
		}
	}
	return all
}

// leftNothing: no process of the demo is left, and none of its files.
func (r *refusal) leftNothing() {
	r.Helper()
	if files, processes := r.files(), r.verbs(); len(files)+len(processes) > 0 {
		r.t.Errorf("left behind: %v, %v", files, processes)
	}
}

// files are the demos' directories.
func (r *refusal) files() []string {
	all, _ := filepath.Glob(filepath.Join(r.dir, "meshcrypt-demo-*"))
	return all
}

// TestDemoWithoutNamespaces: where namespaces are refused the demo says so and
// how to allow them, and carries a download and an upload through nodes without
// a TUN, one of which is killed, all by processes of nobody.
func TestDemoWithoutNamespaces(t *testing.T) {
	t.Parallel()
	r := newRefusal(t)
	var out, said bytes.Buffer
	beside := r.Beside()
	err := lab.Again(t, func() error {
		out.Reset()
		said.Reset()
		beside.Forget()
		cmd := r.demo("--seconds", "9", "--rate", "80mbit", "-o", "json")
		cmd.Stdout, cmd.Stderr = &out, &said
		err := cmd.Run()
		t.Logf("%s%s", said.String(), out.String())
		var v struct{ Problems []string }
		if json.Unmarshal(out.Bytes(), &v) == nil && stoodOnly(v.Problems) {
			return lab.Late{What: v.Problems[0], Beside: beside.Stall()}
		}
		return err
	})
	type way struct {
		Received uint64 `json:"bytes_received"`
		GotSum   string `json:"sha256_received"`
		SentSum  string `json:"sha256_sent"`
	}
	var v struct {
		Result, Killed   string
		Lost             int `json:"sessions_lost"`
		Shares           []struct{ Agent string }
		ShowsNot         string `json:"shows_not"`
		Download, Upload way
	}
	if jsonErr := json.Unmarshal(out.Bytes(), &v); err != nil || jsonErr != nil {
		t.Fatalf("the demo: %v, %v", err, jsonErr)
	}
	for _, w := range []way{v.Download, v.Upload} {
		if w.Received != 90_000_000 || w.GotSum == "" || w.GotSum != w.SentSum {
			t.Errorf("%+v", w)
		}
	}
	if v.Result != "PASS" || v.Killed == "" || v.Lost != 0 || len(v.Shares) < 2 || !strings.Contains(v.ShowsNot, "death of the egress") {
		t.Errorf("%+v", v)
	}
	for _, words := range []string{"refuses the demo its own namespaces", "sudo sysctl user.max_user_namespaces=", "busiest agent but for the egress"} {
		if !strings.Contains(said.String(), words) {
			t.Errorf("it did not say %q", words)
		}
	}
	if strings.Contains(said.String(), "but for the egress "+v.Killed+"\n") {
		t.Errorf("killed %s, the egress", v.Killed)
	}
	r.leftNothing()
}

// stoodOnly says that a demo failed for a limit of time and for nothing else.
func stoodOnly(problems []string) bool {
	return len(problems) > 0 && !slices.ContainsFunc(problems, func(p string) bool { return !strings.Contains(p, "stood still for") })
}

// TestDemoWithoutTUN: where namespaces are allowed and a TUN is not, as where
// /dev/net/tun is root's alone or not there, it says so and how to have it before
// any node starts, and plays without.
func TestDemoWithoutTUN(t *testing.T) {
	t.Parallel()
	r := newRefusal(t)
	hide, line := "mount -t tmpfs none /dev/net", "mknod -m 666 /dev/net/tun c 10 200"
	if lab.Users() > 1 { // a file of root's, refused to nobody
		hide, line = hide+" && umask 077 && touch /dev/net/tun", "sudo chmod 666 /dev/net/tun"
	}
	out, err := r.demoAfter(hide, "--seconds", "6", "--rate", "20mbit").CombinedOutput()
	before, after, fellBack := strings.Cut(string(out), "instead: the same mesh")
	// Whether it was fast enough is not asked here.
	if !fellBack || !strings.Contains(before, "refuses the demo a TUN") || !strings.Contains(before, line) ||
		strings.Contains(before, "building a mesh") || strings.Count(after, "  equal ") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	r.leftNothing()
}

// TestDemoWithoutNamespacesEnds: a demo whose transfers break off, or that is told
// to end, is no success and leaves nothing behind.
func TestDemoWithoutNamespacesEnds(t *testing.T) {
	t.Parallel()
	r := newRefusal(t)
	for what, end := range map[string]func(*exec.Cmd){
		"told to end": func(cmd *exec.Cmd) {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Error(err)
			}
		},
		"killed": func(cmd *exec.Cmd) {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		},
		"its web server is killed": func(*exec.Cmd) { r.killWeb() },
	} {
		cmd := r.demo("--seconds", "6", "--rate", "20mbit")
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r.Until("its transfers run", 30*time.Second, func() error {
			for _, verb := range r.verbs() {
				if verb == "transfer" {
					return nil
				}
			}
			return errNoTransfer
		})
		end(cmd)
		begin := time.Now()
		err := cmd.Wait()
		t.Logf("%s: %v after %v: ...%s", what, err, time.Since(begin).Round(time.Millisecond), tail(said.String(), 300))
		if err == nil || strings.Contains(said.String(), "PASS") {
			t.Errorf("%s: %v", what, err)
		}
		r.Until("all processes are gone", 5*time.Second, func() error {
			if len(r.verbs()) > 0 {
				return errStillThere
			}
			return nil
		})
		if files := r.files(); what == "killed" { // nobody was left to remove them
			for _, dir := range files {
				os.RemoveAll(dir)
			}
		}
		r.leftNothing()
	}
}

var (
	errNoTransfer = errors.New("not yet")
	errStillThere = errors.New("some are left")
)

func tail(text string, n int) string { return text[max(0, len(text)-n):] }

// killWeb takes away what the transfers go to.
func (r *refusal) killWeb() {
	r.Helper()
	for id, verb := range r.verbs() {
		if verb == "web" {
			if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
				r.t.Error(err)
			}
		}
	}
}
