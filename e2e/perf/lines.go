package main

import (
	"fmt"
	"maps"
	"slices"
)

// line is one comparison: how each side is set up on a rig of its own, and what
// A has to reach of B; zeros hold nothing.
type line struct {
	a, b         func(*rig)
	aName, bName string
	throughput   float64 // least ratio
	cpu          float64 // largest ratio of CPU seconds for a GB
}

const lineWireguard = "wireguard"

func lineNames() []string { return slices.Sorted(maps.Keys(lines())) }

func lines() map[string]line {
	return map[string]line{
		"gateway": {oneAgent, (*rig).startWireguard, "one agent behind a gateway", "wireguard-go, one router", 0.9, 1.2},
		"two":     {twoAgents, oneAgent, "two agents", "one agent", 0.95, 0},
		"small":   {smallAgents, smallAgent, "two small agents", "one small agent", 0, 0},
		"entered": {enteredNode, (*rig).startWireguard, "agent on the entered node", "wireguard-go, one router", 1.2, 0.9},
		// The peer against the bare path: shows that the rig itself is sound.
		lineWireguard: {(*rig).startWireguard, (*rig).startBare, "wireguard-go, one router", "no tunnel", 0, 0},
	}
}

// startBare routes without a tunnel.
func (r *rig) startBare() {
	r.agent.Sh("sysctl -qw net.ipv4.ip_forward=1")
	r.gateway.Sh("ip route add 10.20.7.0/24 via %s || true; ip route replace 10.20.0.100/32 via %s", agentOuter, agentOuter)
	r.dest.Sh("ip route add 198.51.100.0/24 via 10.20.0.2")
}

// compare alternates the two sides and reports medians.
func (b *bench) compare(name string, l line, mode string) {
	rigA, rigB := b.newRig(mode), b.newRig(mode)
	l.a(rigA)
	l.b(rigB)
	for _, down := range []bool{false, true} {
		var as, bs []sample
		for round := range b.rounds {
			as = append(as, rigA.measure(down))
			bs = append(bs, rigB.measure(down))
			b.Logf("%s %s %s round %d: A %v | B %v", name, mode, direction(down), round, as[round], bs[round])
		}
		b.report(result{name, mode, direction(down), l, median(as), median(bs)})
	}
}

func direction(down bool) string {
	if down {
		return "down"
	}
	return "up"
}

func (s sample) String() string {
	return fmt.Sprintf("%.0f Mbit/s %.2f s/GB busy %.0f%% steal %.1f%% resent %d", s.mbit, s.cpuPerG, 100*s.busy, 100*s.steal, s.resent)
}

// median drops the first round, which warms caches and windows.
func median(all []sample) (m sample) {
	if len(all) > 1 {
		all = all[1:]
	}
	of := func(get func(sample) float64) float64 {
		values := make([]float64, len(all))
		for i, s := range all {
			values[i] = get(s)
		}
		return middle(values)
	}
	return sample{
		mbit:    of(func(s sample) float64 { return s.mbit }),
		cpuPerG: of(func(s sample) float64 { return s.cpuPerG }),
		busy:    of(func(s sample) float64 { return s.busy }),
		steal:   of(func(s sample) float64 { return s.steal }),
		resent:  int(of(func(s sample) float64 { return float64(s.resent) })),
	}
}
