package demo

import (
	"strings"
	"testing"
	"time"
)

// TestLacked: each thing that a machine lacks is named with its figure, from its limit on.
func TestLacked(t *testing.T) {
	if says := lacked(LateLeast-1, StolenLeast-0.001, 2*LoadLeast-0.1, 2); says != "" {
		t.Errorf("of a machine that gave enough: %q", says)
	}
	for want, says := range map[string]string{
		"it stood still for up to 800 ms":                 lacked(800*time.Millisecond, 0, 0, 2),
		"12 % of its CPU time went to other machines":     lacked(0, 0.12, 0, 2),
		"18.6 tasks at a time wanted its 2 CPUs":          lacked(0, 0, 18.6, 2),
		"for up to 800 ms, 12 % of its CPU time went to ": lacked(800*time.Millisecond, 0.12, 0, 2),
	} {
		if !strings.Contains(says, want) {
			t.Errorf("%q lacks %q", says, want)
		}
	}
}

func TestCPUTimes(t *testing.T) {
	before := cpuOf("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 2 3\n")
	now := cpuOf("cpu  200 0 200 1100 0 0 0 500 50 0\n")
	if before != (cpuTimes{1000, 100}) || now.stolenSince(before) != 0.4 || before.stolenSince(now) != 0 {
		t.Errorf("%+v, %v", before, now.stolenSince(before))
	}
	for _, text := range []string{"", "cpu", "cpux 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h"} {
		if c := cpuOf(text); c != (cpuTimes{}) {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

// TestVerdictNamesTheMachine: only a FAIL does, and then among its problems.
func TestVerdictNamesTheMachine(t *testing.T) {
	v := good()
	v.lacked = "this machine gave too little"
	if v.judge(); v.Result != "PASS" || len(v.Problems) != 0 {
		t.Errorf("%s, %q", v.Result, v.Problems)
	}
	v = good()
	v.lacked, v.Lost = "this machine gave too little", 1
	if v.judge(); v.Result != "FAIL" || len(v.Problems) != 2 || v.Problems[1] != v.lacked {
		t.Errorf("%s, %q", v.Result, v.Problems)
	}
}
