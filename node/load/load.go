// Package load measures how much of what a node offers is in use, and what its
// host can carry. It owns the arithmetic and the reading of the kernel's
// accounts. What follows from a load, placement and moves, belongs to the
// arbiter.
package load

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Meter gives the share in use of the CPUs that this process offers: its own
// use, and what other work takes of the offered part. It yields to other work:
// a host busy with its own affairs reads as a loaded node.
type Meter struct {
	root    fs.FS
	own     func() (time.Duration, error)
	offered uint32
	alone   bool

	mu     sync.Mutex // protects the fields below
	before sample
	last   float64
	limit  float64 // of control groups, as read last
	readAt host    // when that was; none yet: 0 CPUs
}

// sample is what was used until one moment.
type sample struct {
	host host
	own  time.Duration
}

// New measures against offered thousandths of a CPU; 0 offers all there are.
func New(offered uint32) *Meter {
	return newMeter(os.DirFS("/"), ownTime, offered)
}

// Alone lets only this process's own use count from now on: for tests whose hosts
// share a machine with other work, which would be each one's foreign use.
func (m *Meter) Alone() { m.alone = true }

func newMeter(root fs.FS, own func() (time.Duration, error), offered uint32) *Meter {
	return &Meter{root: root, own: own, offered: offered}
}

// Load is the share in use since the call before, 0 to 1; the first call has
// nothing to compare with and gives 0. Calls closer together than the kernel
// counts give the last answer.
func (m *Meter) Load() (float64, error) {
	now, err := m.sample()
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.before.host.cpus == 0 {
		m.before = now
		return 0, nil
	}
	if now.host.total-m.before.host.total < MinTicks {
		return m.last, nil
	}
	if m.alone {
		m.before.host.busy, now.host.busy = 0, 0
	}
	m.last = used(m.before, now, m.capacity(now.host))
	m.before = now
	return m.last, nil
}

// Capacity is what the node offers now, in thousandths of a CPU: no more than
// the host has and a control group allows.
func (m *Meter) Capacity() (uint32, error) {
	h, err := m.host()
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint32(m.capacity(h) * 1000), nil
}

// capacity is Capacity in CPUs; the caller holds mu.
func (m *Meter) capacity(now host) float64 {
	capacity := float64(now.cpus)
	if m.offered > 0 {
		capacity = min(capacity, float64(m.offered)/1000)
	}
	if limit := m.quota(now); limit > 0 {
		capacity = min(capacity, limit)
	}
	return capacity
}

// quota is what control groups allow. To find it takes many times the work of all else of
// a reading, so it is kept for a while; the caller holds mu.
func (m *Meter) quota(now host) float64 {
	const every = uint64(QuotaEvery/time.Second) * ticksPerSecond
	if m.readAt.cpus != now.cpus || now.total < m.readAt.total || now.total-m.readAt.total >= every*uint64(now.cpus) {
		m.limit, m.readAt = quota(m.root), now
	}
	return m.limit
}

func (m *Meter) sample() (sample, error) {
	h, err := m.host()
	if err != nil {
		return sample{}, err
	}
	own, err := m.own()
	return sample{h, own}, err
}

func (m *Meter) host() (host, error) {
	text, err := fs.ReadFile(m.root, "proc/stat")
	if err != nil {
		return host{}, fmt.Errorf("load: %w", err)
	}
	return parseStat(string(text))
}

// ownTime is the CPU time of this process.
func ownTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// used compares two samples. Other work counts only as far as it takes from
// the offered part: on 8 CPUs of which 2 are offered, six busy ones are none
// of ours. The clock is the kernel's own count, so that both sides of the
// fraction stop together when the machine does.
func used(before, now sample, capacity float64) float64 {
	cpus := float64(now.host.cpus)
	total := now.host.total - before.host.total
	if total == 0 || now.host.total < before.host.total || now.host.busy < before.host.busy || capacity <= 0 {
		return 0
	}
	elapsed := float64(total) / cpus / ticksPerSecond
	busy := float64(now.host.busy-before.host.busy) / ticksPerSecond / elapsed
	own := max(0, (now.own-before.own).Seconds()/elapsed)
	foreign := max(0, busy-own)
	taken := max(0, foreign-(cpus-capacity))
	return min(max((own+taken)/capacity, 0), 1)
}
