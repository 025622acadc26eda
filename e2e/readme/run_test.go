//go:build e2e

package readme

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// Times of a run.
const (
	copyTime  = 4 * time.Minute // of one block in a fresh copy
	readyTime = 40 * time.Second
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

// TestRunBlocks: what the README says works in a fresh copy of the project.
func TestRunBlocks(t *testing.T) {
	copied, beside := "", lab.New(t, t.TempDir()).Beside()
	for _, b := range blocks(t) {
		if b.mark != "run" {
			continue
		}
		if copied == "" {
			copied = freshCopy(t)
		}
		if err := lab.Again(t, func() error {
			beside.Forget()
			cmd := exec.CommandContext(t.Context(), "timeout", fmt.Sprint(copyTime.Seconds()), "bash", "-ec", b.text)
			cmd.Dir = copied
			out, err := cmd.CombinedOutput()
			t.Logf("README.md:%d:\n%s%s", b.line, b.text, out)
			// A demo that missed a limit of time, and has no other problem.
			if said := string(out); err != nil && strings.Contains(said, "stood still for") &&
				strings.Count(said, "\nproblem:") == strings.Count(said, "stood still for") {
				return lab.Late{What: "the demo", Beside: beside.Stall()}
			}
			return err
		}); err != nil {
			t.Errorf("README.md:%d: %v", b.line, err)
		}
	}
}

// freshCopy is what a clone of this tree would hold.
func freshCopy(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list := exec.Command("git", "-C", "../..", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard")
	files, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	tar := exec.Command("sh", "-c", `tar -C ../.. -cf - -T - | tar -C "$1" -xf -`, "sh", dir)
	tar.Stdin = strings.NewReader(string(files))
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, out)
	}
	return dir
}

// scene is the hosts that the README speaks of.
type scene struct {
	*lab.World
	t     *testing.T
	tools string // directory of meshcrypt and sudo
	hosts map[string]*lab.Space
	wan   *lab.Space
	lan   *lab.Space
}

// TestHostBlocks: three hosts, a client and a web server, made by the README's
// lines alone, in their order; in the end the client reaches the server.
func TestHostBlocks(t *testing.T) {
	s := newScene(t)
	s.Write("correct horse battery staple\n", "password")
	for _, b := range blocks(t) {
		name, stays, ok := b.host()
		switch {
		case !ok:
		case stays:
			s.stay(b, name)
		default:
			s.run(b, name)
		}
	}
	s.Until("the laptop reaches the web server", readyTime, func() error {
		return s.Reach(s.hosts["laptop"], s.hosts["web"], "10.20.0.100")
	})
}

func newScene(t *testing.T) *scene {
	s := &scene{World: lab.New(t, t.TempDir()), t: t, hosts: make(map[string]*lab.Space)}
	s.tools = s.File("tools")
	s.Write("#!/bin/sh\nexec \"$@\"\n", "tools", "sudo")
	program(t, filepath.Join(s.tools, "meshcrypt"))
	if err := os.Chmod(filepath.Join(s.tools, "sudo"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.wan, s.lan = s.Space("wan"), s.Space("lan")
	for _, w := range []*lab.Space{s.wan, s.lan} {
		w.Sh("ip link add sw0 type bridge forward_delay 0; ip link set sw0 up")
	}
	for i, name := range []string{"a", "b", "c"} {
		s.plug(name, "eth0", s.wan, fmt.Sprintf("192.0.2.%d/24", i+1))
		s.plug(name, "eth1", s.lan, fmt.Sprintf("10.20.0.%d/24", i+1))
	}
	s.plug("laptop", "eth0", s.wan, "192.0.2.100/24")
	s.plug("web", "eth0", s.lan, "10.20.0.100/24")
	return s
}

// program puts the binary under test where it is asked for.
func program(t *testing.T, path string) {
	t.Helper()
	build := exec.Command("go", "build", "-buildvcs=false", "-o", path, "../../cmd/meshcrypt")
	if given := os.Getenv("MESHCRYPT_E2E_BINARY"); given != "" { // as in e2e/netns
		build = exec.Command("cp", given, path)
	}
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
}

// plug connects a host to a switch, and makes it if there is none of that name.
func (s *scene) plug(name, device string, to *lab.Space, address string) {
	s.Helper()
	if s.hosts[name] == nil {
		s.hosts[name] = s.Space(name)
	}
	s.Wire(s.hosts[name], device, to, "to-"+name)
	to.Sh("ip link set to-%s master sw0", name)
	s.hosts[name].Sh("ip address add %s dev %s", address, device)
}

// environment makes one machine of many hosts: each has its own name, data
// and sockets; the files that people carry between hosts lie in one directory.
func (s *scene) environment(name string) []string {
	return []string{
		"PATH=" + s.tools + ":" + os.Getenv("PATH"), "MESHCRYPT_NAME=" + name,
		"MESHCRYPT_DATA_DIR=" + s.File(name, "data"), "MESHCRYPT_RUN_DIR=" + s.File(name, "run"),
	}
}

func (s *scene) host(b block, name string) *lab.Space {
	s.Helper()
	h := s.hosts[name]
	if h == nil {
		s.Fatalf("README.md:%d: there is no host %q", b.line, name)
	}
	return h
}

// run runs a block to its end; a node has to be ready before it is asked.
func (s *scene) run(b block, name string) {
	s.Helper()
	h := s.host(b, name)
	if _, err := os.Stat(filepath.Join(s.Dir, name, "data")); err == nil {
		s.ready(h, name, nil)
	}
	r := h.Try(s.environment(name), "bash", "-ec", b.text)
	s.t.Logf("README.md:%d, on %s:\n%s%s%s", b.line, name, b.text, r.Out, r.Stderr)
	if r.Code != 0 {
		s.Fatalf("README.md:%d: exit %d", b.line, r.Code)
	}
}

func (s *scene) ready(h *lab.Space, name string, p *lab.Process) {
	s.Helper()
	s.Until(name+" is ready", readyTime, func() error {
		if p != nil && !p.Running() {
			s.Fatalf("%s ended: %s", name, p.Tail(10))
		}
		if r := h.Try(s.environment(name), "meshcrypt", "status", "--check", "ready"); r.Code != 0 {
			if p != nil {
				return fmt.Errorf("exit %d: %s", r.Code, p.Tail(10))
			}
			return fmt.Errorf("exit %d", r.Code)
		}
		return nil
	})
}

var token = regexp.MustCompile(`mct1\.\S+`)

// stay starts a block that does not end, and waits until it works: a node is
// ready and has told its token, a client is connected.
func (s *scene) stay(b block, name string) {
	s.Helper()
	h := s.host(b, name)
	p := h.Start(name, s.environment(name), "bash", "-ec", b.text)
	s.Until("the block works on "+name, readyTime, func() error {
		if !p.Running() {
			s.Fatalf("README.md:%d ended on %s: %s", b.line, name, p.Tail(20))
		}
		log, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		switch found := token.Find(log); {
		case found != nil:
			s.Write(string(found)+"\n", "token")
		case strings.Contains(b.text, "meshcrypt init"):
			return fmt.Errorf("no token: %s", p.Tail(3))
		}
		if name == "laptop" && !strings.Contains(string(log), "Connected as ") {
			return fmt.Errorf("not connected: %s", p.Tail(3))
		}
		return nil
	})
	if name != "laptop" {
		s.ready(h, name, p)
	}
	s.t.Logf("README.md:%d, on %s:\n%s%s", b.line, name, b.text, p.Tail(8))
}
