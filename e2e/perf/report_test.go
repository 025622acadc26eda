package main

import (
	"strings"
	"testing"
)

func pairOf(name, mode, direction string, l line, throughput, cpu float64) result {
	return result{name, mode, direction, l, sample{mbit: 1000 * throughput, cpuPerG: 4 * cpu, steal: 0.02}, sample{mbit: 1000, cpuPerG: 4}}
}

// TestVerdictHoldsBothRatios: throughput from below, CPU from above, each line
// by its own numbers; a line that holds nothing is never missed.
func TestVerdictHoldsBothRatios(t *testing.T) {
	gateway, entered, small := lines()["gateway"], lines()["entered"], lines()["small"]
	for _, c := range []struct {
		name string
		r    result
		want int
	}{
		{"both held", pairOf("gateway", modeVeth, "up", gateway, 0.9, 1.2), 0},
		{"slow", pairOf("gateway", modeVeth, "up", gateway, 0.89, 1), 1},
		{"costly", pairOf("gateway", modeVeth, "up", gateway, 1, 1.21), 1},
		{"entered held", pairOf("entered", modeWire, "up", entered, 1.2, 0.9), 0},
		{"entered neither", pairOf("entered", modeWire, "up", entered, 1.19, 0.91), 2},
		{"nothing to hold", pairOf("small", modeVeth, "up", small, 0.1, 9), 0},
	} {
		var out strings.Builder
		if got := verdict(&out, []result{c.r}); got != c.want || strings.Count(out.String(), "MISSED") != c.want || !strings.Contains(out.String(), "2.0%") {
			t.Errorf("%s: %d missed\n%s", c.name, got, out.String())
		}
	}
}

// TestTableIsTheReadmes: its head is what the README's table begins with.
func TestTableIsTheReadmes(t *testing.T) {
	var out strings.Builder
	l := lines()["gateway"]
	table(&out, []result{
		pairOf("gateway", modeVeth, "up", l, 1.14, 0.85), pairOf("gateway", modeVeth, "down", l, 1.24, 0.74),
		pairOf("gateway", modeWire, "up", l, 1.22, 0.8), pairOf("gateway", modeWire, "down", l, 1.14, 0.85),
	})
	want := `
| throughput (and CPU for a GB) against | veth up | veth down | wire up | wire down |
|---|---|---|---|---|
| wireguard-go, one router, by one agent behind a gateway | 1.14 (0.85) | 1.24 (0.74) | 1.22 (0.80) | 1.14 (0.85) |
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}
