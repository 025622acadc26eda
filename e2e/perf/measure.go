package main

import (
	"os"
	"strconv"
	"strings"
)

// sample is one measurement.
type sample struct {
	mbit    float64 // what arrived
	cpuPerG float64 // CPU seconds of the whole machine per GB that arrived
	busy    float64 // share of the machine in use
	steal   float64 // share of the machine taken away by its host
	resent  int     // TCP segments sent again
}

// measure runs one TCP stream through the tunnel of a rig.
func (r *rig) measure(down bool) sample {
	r.Helper()
	server := r.dest.ServeIperf()
	defer server.Kill()
	flags := []string{"--time", strconv.Itoa(r.bench.seconds), "--congestion", r.bench.cc}
	if down {
		flags = append(flags, "--reverse")
	}
	before := r.account()
	report, err := r.client.Iperf(destAddress, flags...)
	after := r.account()
	received := report.End.Received
	if err != nil || received.Bytes == 0 {
		r.Fatalf("nothing to measure: %v", err)
	}
	total := after.total - before.total
	return sample{
		mbit:    received.Rate / 1e6,
		cpuPerG: (after.busy - before.busy) / (received.Bytes / 1e9),
		busy:    (after.busy - before.busy) / total,
		steal:   (after.steal - before.steal) / total,
		resent:  report.End.Sent.Retransmits,
	}
}

// account is the machine's CPU seconds since its start.
type account struct{ busy, steal, total float64 }

func (r *rig) account() (a account) {
	r.Helper()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		r.Fatalf("%v", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line)[1:9] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			r.Fatalf("/proc/stat: %v", err)
		}
		seconds := ticks / 100
		a.total += seconds
		switch i {
		case 3, 4: // idle, waiting for a disk
		case 7:
			a.steal += seconds
		default:
			a.busy += seconds
		}
	}
	return a
}
