package demo

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// machine watches what this machine gives the demo: a verdict on one that stands still
// says nothing of the mesh, and its reader should know that.
type machine struct {
	began cpuTimes

	mu   sync.Mutex // protects late
	late time.Duration
}

// watchMachine watches until ctx ends.
func watchMachine(ctx context.Context) *machine {
	m := &machine{began: readCPU()}
	go func() {
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			now := time.Now()
			m.mu.Lock()
			m.late = max(m.late, now.Sub(last)-watchEvery)
			m.mu.Unlock()
			last = now
		}
	}()
	return m
}

// lacked says what the machine did not give, with figures; empty: it gave enough.
func (m *machine) lacked() string {
	m.mu.Lock()
	late := m.late
	m.mu.Unlock()
	text, _ := os.ReadFile("/proc/loadavg") // without it there is no load to tell
	return lacked(late, readCPU().stolenSince(m.began), firstNumber(string(text)), runtime.NumCPU())
}

func lacked(late time.Duration, stolen, load float64, cpus int) string {
	var all []string
	if late >= LateLeast {
		all = append(all, fmt.Sprintf("it stood still for up to %d ms", late.Milliseconds()))
	}
	if stolen >= StolenLeast {
		all = append(all, fmt.Sprintf("%.0f %% of its CPU time went to other machines on its host (steal)", 100*stolen))
	}
	if load >= LoadLeast*float64(cpus) {
		all = append(all, fmt.Sprintf("%.1f tasks at a time wanted its %d CPUs (load)", load, cpus))
	}
	if len(all) == 0 {
		return ""
	}
	return "this machine gave too little to judge a mesh by: " + strings.Join(all, ", ") + "; try again when it is quieter"
}

// cpuTimes are the machine's, in the kernel's ticks.
type cpuTimes struct{ all, stolen float64 }

func readCPU() cpuTimes {
	text, _ := os.ReadFile("/proc/stat")
	return cpuOf(string(text))
}

// cpuOf reads the first line: user, nice, system, idle, iowait, irq, softirq, steal, and
// what is part of those.
func cpuOf(text string) (c cpuTimes) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return c
	}
	for _, field := range fields[1:9] {
		c.all += firstNumber(field)
	}
	c.stolen = firstNumber(fields[8])
	return c
}

func (c cpuTimes) stolenSince(o cpuTimes) float64 {
	if c.all <= o.all {
		return 0
	}
	return (c.stolen - o.stolen) / (c.all - o.all)
}

func firstNumber(text string) float64 {
	first, _, _ := strings.Cut(text, " ")
	n, _ := strconv.ParseFloat(first, 64)
	return n
}
