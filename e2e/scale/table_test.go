package main

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	rows, err := parse(`goos: linux
BenchmarkScale/a_tick_at_rest/nodes=3/sessions=1000-2   	     200	     12345 ns/op	      6789 cpu-ns/op
BenchmarkScale/a_tick_at_rest/nodes=1000/sessions=100000     	     200	     1.5e+06 ns/op	      1.25e+06 cpu-ns/op	 3 B/op
PASS
`)
	if err != nil || len(rows) != 2 || rows[0] != (row{"a tick at rest", 3, 1000, 6789}) || rows[1] != (row{"a tick at rest", 1000, 100_000, 1_250_000}) {
		t.Fatalf("%+v, %v", rows, err)
	}
	for _, wrong := range []string{"PASS\n", "BenchmarkScale/x/nodes=3/sessions=1-2 1 5 ns/op\n"} {
		if rows, err := parse(wrong); err == nil {
			t.Errorf("%q: %+v", wrong, rows)
		}
	}
}

func TestTableAndPicture(t *testing.T) {
	rows := []row{{"one", 3, 10, 1000}, {"two", 3, 10, 5}, {"one", 3, 100, 10_000}}
	if text := table(rows, 2*time.Microsecond); !strings.Contains(text, "5.000") {
		t.Errorf("no ratio to a handshake:\n%s", text)
	}
	lines := draw(rows)
	if a, b := strings.Count(lines[2], "#"), strings.Count(lines[3], "#"); b-a != 10 {
		t.Errorf("ten times the cost is %d characters more:\n%s", b-a, strings.Join(lines, "\n"))
	}
}

func TestHandshake(t *testing.T) {
	if d, err := handshake(2); err != nil || d < 10*time.Microsecond {
		t.Errorf("%v, %v", d, err)
	}
}
