package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Iperf is the part of iperf3's report that tests use.
type Iperf struct {
	Error string `json:"error"`
	End   struct {
		// Sum is the whole of a UDP run, as its receiver counted it.
		Sum struct {
			Packets float64 `json:"packets"`
			Lost    float64 `json:"lost_packets"`
		} `json:"sum"`
		Received struct {
			Bytes float64 `json:"bytes"`
			Rate  float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sent struct {
			Retransmits int `json:"retransmits"`
		} `json:"sum_sent"`
	} `json:"end"`
}

// ServeIperf starts an iperf3 server on all addresses of the host and waits
// until it listens. It serves one client after the other.
func (s *Space) ServeIperf() *Process {
	s.world.Helper()
	server := s.Start("iperf3-server", nil, "iperf3", "--server")
	s.world.Until("iperf3 listens", 5*time.Second, func() error {
		if s.Sh("ss -Hltn 'sport = :5201'") == "" {
			return errors.New("it does not")
		}
		return nil
	})
	return server
}

// Iperf runs an iperf3 client to its end against the server at an address.
func (s *Space) Iperf(address string, flags ...string) (report Iperf, err error) {
	s.world.Helper()
	r := s.Try(nil, append([]string{"iperf3", "--client", address, "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(r.Out), &report); err != nil {
		return report, fmt.Errorf("iperf3: exit %d, %w: %s", r.Code, err, r.Stderr)
	}
	if report.Error != "" || r.Code != 0 {
		return report, fmt.Errorf("iperf3: exit %d: %s", r.Code, report.Error)
	}
	return report, nil
}
