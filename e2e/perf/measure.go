package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
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
	server := r.dest.Start("iperf3-server", nil, "iperf3", "--server", "--one-off", "--bind", destAddress)
	defer server.Kill()
	r.Until("iperf3 listens", 5*time.Second, func() error {
		if r.dest.Sh("ss -Hltn 'sport = :5201'") == "" {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	args := []string{"iperf3", "--client", destAddress, "--time", fmt.Sprint(r.bench.seconds), "--json", "--congestion", r.bench.cc}
	if down {
		args = append(args, "--reverse")
	}
	before := r.account()
	result := r.client.Try(nil, args...)
	after := r.account()
	return r.read(result, before, after)
}

// iperf is the part of iperf3's report that is used.
type iperf struct {
	Error string `json:"error"`
	End   struct {
		Received struct {
			Bytes float64 `json:"bytes"`
			Rate  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sent struct {
			Retransmits int `json:"retransmits"`
		} `json:"sum_sent"`
	} `json:"end"`
}

func (r *rig) read(result lab.Result, before, after account) sample {
	r.Helper()
	var report iperf
	if err := json.Unmarshal([]byte(result.Out), &report); err != nil || report.Error != "" || report.End.Received.Bytes == 0 {
		r.Fatalf("iperf3: exit %d, %s, %v\n%s%s", result.Code, report.Error, err, result.Out, result.Stderr)
	}
	total := after.total - before.total
	return sample{
		mbit:    report.End.Received.Rate / 1e6,
		cpuPerG: (after.busy - before.busy) / (report.End.Received.Bytes / 1e9),
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
