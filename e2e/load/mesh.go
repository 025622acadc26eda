package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// user is the account of all clients but for its number: one account may log in at a
// limited rate only.
const user = "load"

// node is one daemon.
type node struct {
	dir     string
	process *exec.Cmd
	spent   time.Duration // CPU of its processes that have ended
}

// mesh is daemons of this host, each at a loopback address of its own.
type mesh struct {
	binary   string
	dir      string
	nodes    []*node
	accounts []account
}

// account is somebody as whom clients log in.
type account struct {
	profile client.Profile
	key     identity.Key
}

func at(i int) string { return fmt.Sprintf("127.0.1.%d:6484", i+1) }

// found makes a mesh of that many nodes and accounts, by a policy of key and value in turn.
func found(binary, dir string, nodes, accounts int, policy ...string) (*mesh, error) {
	m := &mesh{binary: binary, dir: dir}
	for i := range nodes {
		m.nodes = append(m.nodes, &node{dir: filepath.Join(dir, fmt.Sprint("n", i))})
	}
	out, err := m.tool(0, "init", "--userspace", "--name", "n0", "--listen", at(0), "--pool", "10.64.0.0/14", "--push", "127.0.9.0/24")
	if err != nil {
		return m, err
	}
	if err := m.start(0); err != nil {
		return m, err
	}
	for words := range slices.Chunk(policy, 2) {
		if _, err := m.tool(0, append([]string{"policy", "set"}, words...)...); err != nil {
			return m, err
		}
	}
	token := ""
	for _, word := range strings.Fields(out) {
		if strings.HasPrefix(word, "mct1.") {
			token = word
		}
	}
	for i := 1; i < nodes; i++ {
		if err := m.start(i, "join", at(0), "--userspace", "--name", fmt.Sprint("n", i), "--listen", at(i), "--token-file", m.file("token", token)); err != nil {
			return m, err
		}
	}
	for i := range accounts {
		if err := m.admit(i); err != nil {
			return m, err
		}
	}
	return m, m.read(nodes, accounts)
}

// tool runs the command line of a node.
func (m *mesh) tool(i int, args ...string) (string, error) {
	cmd := exec.Command(m.binary, append(args, "--data-dir", m.nodes[i].dir)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("meshcrypt %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return string(out), err
}

func (m *mesh) file(name, text string) string {
	path := filepath.Join(m.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		panic("load: " + err.Error()) // the directory is our own
	}
	return path
}

// start runs a daemon and waits until it serves.
func (m *mesh) start(i int, args ...string) error {
	if len(args) == 0 {
		args = []string{"run"}
	}
	n := m.nodes[i]
	out, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	n.process = exec.Command(m.binary, append(args, "--data-dir", n.dir)...)
	n.process.Stdout, n.process.Stderr = out, out
	n.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.process.Start(); err != nil {
		return err
	}
	for range 600 {
		if _, err = m.tool(i, "status", "--check", "ready"); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("n%d is not ready: %w", i, err)
}

// password is that of every account; nothing but this mesh believes in it.
const password = "correct horse battery staple"

// profileOf is where an account's profile is kept.
func profileOf(dir string, i int) string { return filepath.Join(dir, fmt.Sprint("profile", i)) }

// admit adds the i-th account.
func (m *mesh) admit(i int) error {
	name := fmt.Sprint(user, i)
	if _, err := m.tool(0, "client", "add", name, "--password-file", m.file("password", password)); err != nil {
		return err
	}
	text, err := m.tool(0, "client", "profile", name)
	if err != nil {
		return err
	}
	return os.WriteFile(profileOf(m.dir, i), []byte(text), 0o600)
}

// known is a mesh of which a crew knows the accounts alone.
func known(dir string, nodes, accounts int) (*mesh, error) {
	m := &mesh{dir: dir}
	return m, m.read(nodes, accounts)
}

// read takes the accounts from their profiles and works the keys out once.
func (m *mesh) read(nodes, accounts int) error {
	for i := range accounts {
		text, err := os.ReadFile(profileOf(m.dir, i))
		if err != nil {
			return err
		}
		var a account
		if a.profile, err = client.ParseProfile(text); err != nil {
			return err
		}
		a.profile.Gateways = nil
		for i := range nodes {
			a.profile.Gateways = append(a.profile.Gateways, netip.MustParseAddrPort(at(i)))
		}
		if a.key, err = auth.DeriveKey([]byte(password), a.profile.Cluster, a.profile.User, auth.DefaultCost()); err != nil {
			return err
		}
		m.accounts = append(m.accounts, a)
	}
	return nil
}

// kill ends all daemons with kill -9.
func (m *mesh) kill() {
	for i := range m.nodes {
		m.end(i)
	}
}

// end is kill for one.
func (m *mesh) end(i int) {
	n := m.nodes[i]
	if n.process == nil || n.process.Process == nil {
		return
	}
	_ = n.process.Process.Kill() // it may have ended
	_ = n.process.Wait()
	if s := n.process.ProcessState; s != nil {
		n.spent += s.UserTime() + s.SystemTime()
	}
	n.process = nil
}

// usage is what the daemons have and had of the machine, by node.
type usage struct {
	cpu         time.Duration // of all processes so far
	rss         int64         // bytes
	anonymous   uint64        // of those: its own memory
	files       uint64        // of those: its code, and raft.db
	descriptors int
	threads     int
	log         int64 // bytes of raft.db
	memory      control.MemoryUse
	sessions    int // with an address, as the arbiter knows; 0 at the others
}

func (m *mesh) usage(i int) (u usage, err error) {
	n := m.nodes[i]
	u.cpu = n.spent
	if n.process == nil {
		return u, nil
	}
	proc := fmt.Sprint("/proc/", n.process.Process.Pid)
	text, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	number := func(field int) int64 { v, _ := strconv.ParseInt(fields[field-3], 10, 64); return v }
	u.cpu += time.Duration(number(14)+number(15)) * 10 * time.Millisecond // USER_HZ is 100
	u.threads, u.rss = int(number(20)), number(24)*int64(os.Getpagesize())
	u.anonymous, u.files = resident(proc)
	open, err := os.ReadDir(proc + "/fd")
	u.descriptors = len(open)
	if logs, globErr := filepath.Glob(filepath.Join(n.dir, "*", "raft.db")); globErr == nil && len(logs) > 0 {
		if info, statErr := os.Stat(logs[0]); statErr == nil {
			u.log = info.Size()
		}
	}
	return u, err
}

// resident is how many bytes of a process's memory are its own, and how many files.
func resident(proc string) (anonymous, files uint64) {
	text, _ := os.ReadFile(proc + "/status") // who ended has none
	for line := range strings.Lines(string(text)) {
		var kib uint64
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &kib); n == 1 {
			anonymous = kib << 10
		} else if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kib); n == 1 {
			files = kib << 10
		}
	}
	return anonymous, files
}

// all is what every daemon has in use.
func (m *mesh) all() (all []usage, err error) {
	for i := range m.nodes {
		u, err := m.usage(i)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// cpu is that of all daemons together.
func (m *mesh) cpu() (sum time.Duration, err error) {
	all, err := m.all()
	for _, u := range all {
		sum += u.cpu
	}
	return sum, err
}
