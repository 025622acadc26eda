package main

import (
	"math"
	"strconv"
	"strings"
)

// bandwidth reads bits per second: 2gbit, 500mbit, 64kbit, 1000000; "" is 0.
func bandwidth(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	number, unit := strings.ToLower(strings.TrimSuffix(text, "/s")), 1.0
	for suffix, factor := range map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9, "tbit": 1e12} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = rest, factor
			break
		}
	}
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if bits := value * unit; err == nil && bits >= 1 && bits <= MaxBandwidth && !math.IsNaN(bits) {
		return uint64(bits), nil
	}
	return 0, usage("--bandwidth 2gbit, 500mbit or 64kbit", "%q is no bandwidth", text)
}
