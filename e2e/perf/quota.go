package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// cpuGroups is where the kernel's CPU controller is found, version 1 or 2.
const (
	groupsV1 = "/sys/fs/cgroup/cpu"
	groupsV2 = "/sys/fs/cgroup"
)

// quotaPeriod is short, so that a held process is slow and not absent.
const quotaPeriod = 5 * time.Millisecond

// hold gives a process so much of one core and no more. It needs root.
func (r *rig) hold(p *lab.Process, cores float64) {
	r.Helper()
	group := filepath.Join(groupsV1, fmt.Sprintf("meshcrypt-perf-%d-%s", os.Getpid(), p.Name))
	period := quotaPeriod.Microseconds()
	quota := int64(cores * float64(period))
	settings := []struct{ file, value string }{
		{"cpu.cfs_period_us", fmt.Sprint(period)}, {"cpu.cfs_quota_us", fmt.Sprint(quota)}, {"cgroup.procs", fmt.Sprint(p.PID())},
	}
	if _, err := os.Stat(groupsV1); err != nil {
		group = filepath.Join(groupsV2, filepath.Base(group))
		settings = settings[1:]
		settings[0].file, settings[0].value = "cpu.max", fmt.Sprint(quota, " ", period)
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		r.Fatalf("no CPU limit for %s: %v (run it as root, or leave the line out)", p.Name, err)
	}
	r.Cleanup(func() {
		p.Kill()
		_ = os.Remove(group) // the kernel may still count its last process
	})
	for _, s := range settings {
		if err := os.WriteFile(filepath.Join(group, s.file), []byte(s.value), 0o644); err != nil {
			r.Fatalf("no CPU limit for %s: %v", p.Name, err)
		}
	}
}
