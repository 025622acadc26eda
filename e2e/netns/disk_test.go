//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

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

// TestFullDisk: of the arbiter among three voters, then of an only voter. No packet is
// lost, the lead moves once at most, status on every host names the one whose disk is full
// within ten seconds, and all is well by itself when there is space again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, hosts := range map[string]int{"one of three voters": 4, "the only voter": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, hosts)
			m.watch("client")
			n1 := m.nodes[0]
			n1.ownDisk()
			m.up()
			m.connect()
			down, up := m.transfer(lab.Plan{Down: true, Pace: 20}), m.transfer(lab.Plan{Pace: 20})
			m.flowing(down, up)
			cost := m.quiet()
			down.Forget()
			up.Forget()
			n1.fillDisk(true)
			begin := time.Now()
			n1.says(10*time.Second, "the disk below "+n1.dir, "is full: free space there")
			for _, n := range m.nodes[1:] {
				n.says(10*time.Second-time.Since(begin), "on n1 the disk below "+n1.dir, "is full")
			}
			t.Logf("all hosts name it %v after the disk was full", time.Since(begin).Round(time.Millisecond))
			if moves := m.flap(4*time.Second, m.nodes[1]); moves > flaps {
				t.Errorf("the lead moved %d times", moves)
			}
			if hosts > 2 {
				m.nodes = append(m.nodes[1:], n1) // who is asked first
				m.fillLog(n1)
			} else {
				m.Until("a change is refused that cannot be written", 60*time.Second, func() error {
					r := n1.try("token", "create", "--ttl", "1m")
					if r.Code == 0 {
						return errors.New("the log's file has room yet")
					}
					if !strings.Contains(r.Stderr, "is full: free space there") {
						t.Errorf("token create says %s", r.Stderr)
					}
					return nil
				})
				if moves := m.flap(4*time.Second, m.nodes[1]); moves > 0 {
					t.Errorf("the lead of an only voter moved %d times", moves)
				}
			}
			n1.fillDisk(false)
			m.Until("nobody names it any more, and the registry takes changes", 60*time.Second, func() error {
				for _, n := range m.nodes {
					if status, err := n.status(); err != nil || len(status.Problems) > 0 {
						return errors.Join(fmt.Errorf("%s says %q", n.Name, status.Problems), err)
					}
				}
				if r := m.nodes[0].try("token", "create"); r.Code != 0 {
					return fmt.Errorf("token create: %s", r.Stderr)
				}
				return nil
			})
			stall, beside := max(down.Stall(), up.Stall()), cost.Stall()
			for _, transfer := range []*lab.Transfer{down, up} {
				if err := transfer.Finish(within(20 * time.Second)).Check(); err != nil {
					t.Error(err)
				}
			}
			if err := lab.InTime("stall with a full disk", stall, beside, time.Second); err != nil {
				t.Error(err)
			}
			m.client.process.Terminate(10 * time.Second)
			m.connect()
		})
	}
}
