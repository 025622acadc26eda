//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// ailments are what becomes of a disk that writes, and what status says of it then. Of a
// full one there is TestFullDisk, by a file system whose files keep what they have.
var ailments = []struct {
	name   string
	strike func(*lab.Disk)
	says   string
}{
	{"each fsync takes 2 s", func(d *lab.Disk) { d.Drag(2 * time.Second) }, "is slow"},
	{"writing fails", func(d *lab.Disk) { d.Fail(unix.EIO) }, "fails (input/output error): look at dmesg, and mend or replace it"},
	{"no block is left, not even for what is there", func(d *lab.Disk) { d.Fail(unix.ENOSPC) }, "is full: free space there"},
}

// Limits of what a disk that ails may cost.
const (
	diskNamed = 10 * time.Second
	diskWell  = 60 * time.Second // after it is mended
	diskStall = time.Second
)

// servedDisk puts a host's data directory on a disk of the lab.
func (h *host) servedDisk() *lab.Disk {
	h.mesh.Helper()
	files := h.mesh.File(h.Name, "disk")
	if err := errors.Join(os.MkdirAll(h.dir, 0o700), os.MkdirAll(files, 0o700)); err != nil {
		h.mesh.Fatalf("%v", err)
	}
	return h.mesh.Disk(h.dir, files)
}

// TestAilingDisk: of the arbiter among three voters, of a voter that follows, of an only
// voter. No packet is lost, the lead moves once at most, status on every host names the
// one whose disk ails, and all is well by itself soon after.
func TestAilingDisk(t *testing.T) {
	t.Parallel()
	for name, hosts := range map[string]int{"one of three voters": 4, "the only voter": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, hosts)
			m.watch("client")
			a := &ailing{mesh: m, disks: make(map[*host]*lab.Disk)}
			for _, n := range m.nodes {
				a.disks[n] = n.servedDisk()
			}
			m.up()
			m.connect()
			a.down, a.up = m.transfer(lab.Plan{Down: true, Pace: 20}), m.transfer(lab.Plan{Pace: 20})
			m.flowing(a.down, a.up)
			for i := range ailments {
				victim := a.arbiterHost()
				a.try(i, "leads", victim)
				if hosts > 2 {
					a.try(i, "follows", a.voterBut(a.arbiterHost(), victim))
				}
				took := a.Until("nobody names it any more, and the registry takes changes", diskWell, a.well)
				t.Logf("all is well after %v", took.Round(time.Millisecond))
			}
			for _, transfer := range []*lab.Transfer{a.down, a.up} {
				if err := transfer.Finish(within(20 * time.Second)).Check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// ailing is a mesh whose disks are the lab's.
type ailing struct {
	*mesh
	disks    map[*host]*lab.Disk
	down, up *lab.Transfer
}

// try has one disk ail in one way, and mends it.
func (a *ailing) try(ailment int, role string, victim *host) {
	a.Helper()
	how, cost := ailments[ailment], a.quiet()
	a.down.Forget()
	a.up.Forget()
	before := a.term()
	how.strike(a.disks[victim])
	begin := time.Now()
	victim.says(diskNamed, "the disk below "+victim.dir, how.says)
	for _, n := range a.nodes {
		if n != victim {
			n.says(diskNamed-time.Since(begin), "on "+victim.Name+" the disk below "+victim.dir, how.says)
		}
	}
	named := time.Since(begin)
	if voter := a.voterBut(victim); voter != nil {
		_ = voter.try("token", "create", "--ttl", "1m") // somebody waits for that disk; the outcome may be unknown
	}
	moves := a.flap(4*time.Second, a.nodes[len(a.nodes)-1])
	for _, n := range a.nodes { // by the new arbiter's word, too
		if n != victim {
			n.says(diskNamed, "on "+victim.Name+" the disk below "+victim.dir, how.says)
		}
	}
	terms := a.term() - before
	a.disks[victim].Mend()
	stall, beside := max(a.down.Stall(), a.up.Stall()), cost.Stall()
	a.t.Logf("%s, at %s, which %s: named on all hosts after %v, lead moved %d times after that, %d terms in all; stall %v, of the flow beside %v",
		how.name, victim.Name, role, named.Round(time.Millisecond), moves, terms, stall.Round(time.Millisecond), beside.Round(time.Millisecond))
	if moves > flaps || terms > flapTerms {
		a.t.Errorf("the lead moved %d times, in %d terms", moves, terms)
	}
	fault := "disk of a host that " + role + ": " + how.name
	if err := errors.Join(took(fault, "until all hosts name it", named, beside, diskNamed), took(fault, "stall", stall, beside, diskStall)); err != nil {
		a.t.Error(err)
	}
}

// arbiterHost is who leads, once somebody does.
func (a *ailing) arbiterHost() (leads *host) {
	a.Helper()
	a.Until("an arbiter", 20*time.Second, func() error {
		_, name, err := a.voters()
		if err == nil && name == "" {
			return errors.New("nobody leads")
		}
		if err == nil {
			leads = a.node(name)
		}
		return err
	})
	return leads
}

// voterBut is a voter besides these; nil: there is none.
func (a *ailing) voterBut(these ...*host) *host {
	a.Helper()
	names, _, err := a.voters()
	if err != nil {
		a.Fatalf("%v", err)
	}
	for _, name := range names {
		if n := a.node(name); !slices.Contains(these, n) {
			return n
		}
	}
	return nil
}

// term is the newest that a node obeys an arbiter of.
func (a *ailing) term() (newest uint64) {
	a.Helper()
	for _, n := range a.nodes {
		var incarnation, term uint64
		status, err := n.status()
		if err == nil {
			_, err = fmt.Sscanf(status.Fence, "%d.%d", &incarnation, &term)
		}
		if err != nil {
			a.Fatalf("the fence of %s: %v", n.Name, err)
		}
		newest = max(newest, term)
	}
	return newest
}

// diskSize is of a host's own disk.
const diskSize = 16 << 20

// ownDisk puts a host's data directory on a small file system of its own.
func (h *host) ownDisk() {
	h.mesh.Helper()
	if err := errors.Join(os.MkdirAll(h.dir, 0o700), unix.Mount("disk", h.dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize))); err != nil {
		h.mesh.Fatalf("%v", err)
	}
	h.mesh.t.Cleanup(func() { _ = unix.Unmount(h.dir, unix.MNT_DETACH) })
}

// fillDisk leaves not a block free, or makes room again.
func (h *host) fillDisk(full bool) {
	h.mesh.Helper()
	path := filepath.Join(h.dir, "ballast")
	if !full {
		if err := os.Remove(path); err != nil {
			h.mesh.Fatalf("%v", err)
		}
		return
	}
	err := os.WriteFile(path, make([]byte, diskSize), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		h.mesh.Fatalf("the disk of %s is not full: %v", h.Name, err)
	}
}

// fillLog has the registry change until the log has used up what its file has free, which
// a full disk does not take from it, and another node leads.
func (m *mesh) fillLog(full *host) {
	m.Helper()
	m.Until("the lead has moved from "+full.Name, 60*time.Second, func() error {
		for range 5 {
			_ = m.nodes[0].try("token", "create", "--ttl", "1m") // its outcome may be unknown
		}
		status, err := m.nodes[1].status()
		if err == nil && (status.Arbiter == "" || status.Arbiter == full.Name) {
			err = fmt.Errorf("arbiter %q", status.Arbiter)
		}
		return err
	})
	if moves := m.flap(4*time.Second, m.nodes[1]); moves > flaps {
		m.t.Errorf("then it moved %d times more", moves)
	}
	full.says(10*time.Second, "the disk below "+full.dir, "is full")
	m.nodes[1].says(10*time.Second, "on "+full.Name+" the disk below "+full.dir, "is full")
}

// flaps is how often the lead of three may move in four seconds for want of CPU. With a
// full disk it moved eight times.
const flaps = 2

// flapTerms is how many terms that may take: an election can fail to elect.
const flapTerms = 2 * flaps

// flap counts how often the lead moves while it is looked at.
func (m *mesh) flap(d time.Duration, at *host) (moves int) {
	m.Helper()
	last := ""
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(200 * time.Millisecond) {
		status, err := at.status()
		if err == nil && status.Fence != last {
			last = status.Fence
			moves++
		}
	}
	return moves - 1
}

// well is nil when no node has anything to complain of, and the registry takes changes.
func (m *mesh) well() error {
	for _, n := range m.nodes {
		if status, err := n.status(); err != nil || len(status.Problems) > 0 {
			return errors.Join(fmt.Errorf("%s says %q", n.Name, status.Problems), err)
		}
	}
	if r := m.nodes[0].try("token", "create"); r.Code != 0 {
		return fmt.Errorf("token create: %s", r.Stderr)
	}
	return nil
}

// TestFullDisk: of the arbiter among three voters, then of an only voter. No packet is
// lost, the lead moves once at most, status on every host names the one whose disk is full
// within ten seconds, and all is well by itself when there is space again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, hosts := range map[string]int{"one of three voters": 4, "the only voter": 2} {
		for try := range tries(t) {
			t.Run(fmt.Sprintf("%s, try %d", name, try+1), func(t *testing.T) {
				t.Parallel()
				testFullDisk(t, "disk full, "+name, hosts)
			})
		}
	}
}

func testFullDisk(t *testing.T, fault string, hosts int) {
	m := newMesh(t, hosts)
	m.watch("client")
	n1 := m.nodes[0]
	n1.ownDisk()
	m.up()
	m.connect()
	w, cost := m.pacedBoth(), m.quiet()
	w.forget()
	n1.fillDisk(true)
	begin := time.Now()
	n1.says(2*diskNamed, "the disk below "+n1.dir, "is full: free space there")
	for _, n := range m.nodes[1:] {
		n.says(2*diskNamed, "on n1 the disk below "+n1.dir, "is full")
	}
	named := took(fault, "until all hosts name it", time.Since(begin), cost.Stall(), diskNamed)
	moves := m.flap(4*time.Second, m.nodes[1])
	flapped := counted(fault, "elections in 4 s", moves, cost.Stall(), flaps)
	if hosts > 2 {
		m.nodes = append(m.nodes[1:], n1) // who is asked first
		m.fillLog(n1)
	} else {
		m.fillLogOfOne()
	}
	n1.fillDisk(false)
	begin = time.Now()
	m.Until("nobody names it any more, and the registry takes changes", 2*diskWell, m.well)
	back := took(fault, "back after space", time.Since(begin), cost.Stall(), diskWell)
	stall, beside := w.stall(), cost.Stall()
	if err := errors.Join(named, flapped, back, unbroken(fault, w.finish()...), took(fault, "stall", stall, beside, diskStall)); err != nil {
		t.Error(err)
	}
	m.client.process.Terminate(10 * time.Second)
	n1.restartFull()
	m.connect()
}

// restartFull stops a daemon whose disk is full, and starts it: neither needs room.
func (h *host) restartFull() {
	h.mesh.Helper()
	h.fillDisk(true)
	stopped := h.process
	stopped.Terminate(10 * time.Second)
	code, ended := stopped.Wait(10 * time.Second)
	log, err := os.ReadFile(stopped.Log)
	said := strings.Count(string(log), "could not be written anew")
	if err != nil || !ended || code != 0 || said != 1 || strings.Contains(string(log), "other software removed") {
		h.mesh.t.Errorf("a daemon on a full disk ends with %d (%t), says %d times that a file was not written (%v)\n%s",
			code, ended, said, err, stopped.Tail(10))
	}
	h.start("run")
	h.says(20*time.Second, "the disk below "+h.dir, "is full")
	h.fillDisk(false)
	h.mesh.Until("all is well with space again", diskWell, h.mesh.well)
}

// fillLogOfOne is fillLog where nobody else can lead: what cannot be written is refused.
func (m *mesh) fillLogOfOne() {
	m.Helper()
	n1 := m.nodes[0]
	m.Until("a change is refused that cannot be written", 60*time.Second, func() error {
		r := n1.try("token", "create", "--ttl", "1m")
		if r.Code == 0 {
			return errors.New("the log's file has room yet")
		}
		if !strings.Contains(r.Stderr, "is full: free space there") {
			m.t.Errorf("token create says %s", r.Stderr)
		}
		return nil
	})
	if moves := m.flap(4*time.Second, m.nodes[1]); moves > 0 {
		m.t.Errorf("the lead of an only voter moved %d times", moves)
	}
}
