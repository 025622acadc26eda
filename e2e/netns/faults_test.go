//go:build e2e

package netns

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// figures is what faults cost in this run, beside what they may: the table of
// `make faults`. A figure beyond its limit fails the test that took it.
type figures struct {
	mu   sync.Mutex // protects rows
	rows []*figure  // in the order in which they were first taken
}

// costs is of all tests, which TestMain prints at the end.
var costs figures

// figure is one measure of one kind of fault, in all tries.
type figure struct {
	fault, what string
	unit        string // ms; empty: a count
	most        float64
	values      []float64
	spoiled     int // tries that the machine spoiled
}

func (f *figures) note(fault, what, unit string, value, most float64, spoiled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.rows, func(r *figure) bool { return r.fault == fault && r.what == what })
	if at < 0 {
		at = len(f.rows)
		f.rows = append(f.rows, &figure{fault: fault, what: what, unit: unit, most: most})
	}
	if r := f.rows[at]; spoiled {
		r.spoiled++
	} else {
		r.values = append(r.values, value)
	}
}

// String is the table; empty without rows. Each line begins with the same word.
func (f *figures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for i, r := range f.rows {
		if i == 0 {
			fmt.Fprintln(table, "fault:\twhat happens\tcosts\ttries\tspoiled\tmedian\tworst\tmust")
		}
		median, worst := "-", "-"
		if n := len(r.values); n > 0 {
			slices.Sort(r.values)
			median, worst = r.in(r.values[n/2]), r.in(r.values[n-1])
		}
		fmt.Fprintf(table, "fault:\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", r.fault, r.what, len(r.values), r.spoiled, median, worst, r.in(r.most))
	}
	_ = table.Flush() // a strings.Builder takes all
	return out.String()
}

func (f *figure) in(v float64) string {
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', 0, 64) + " " + f.unit)
}

func took(fault, what string, took, beside, limit time.Duration) error {
	return costs.took(fault, what, took, beside, limit)
}

func counted(fault, what string, n int, beside time.Duration, most int) error {
	return costs.counted(fault, what, n, beside, most)
}

// took is lab.InTime for the table.
func (f *figures) took(fault, what string, took, beside, limit time.Duration) error {
	err := lab.InTime(fault+": "+what, took, beside, limit)
	f.note(fault, what, "ms", float64(took.Milliseconds()), float64(limit.Milliseconds()), lab.Spoiled(err))
	return err
}

// counted wants something to happen no more often than that; a machine that stood still
// for so long meanwhile may have caused it.
func (f *figures) counted(fault, what string, n int, beside time.Duration, most int) (err error) {
	if n > most {
		err = lab.Late{What: fmt.Sprintf("%s: %s: %d, and %d at most", fault, what, n, most), Beside: beside}
	}
	f.note(fault, what, "", float64(n), float64(most), lab.Spoiled(err))
	return err
}

// unbroken wants every connection to have lived, and its bytes to have arrived.
func unbroken(fault string, reports ...lab.Report) error {
	var errs []error
	for _, r := range reports {
		if err := r.Check(); err != nil {
			errs = append(errs, fmt.Errorf("%w (%v)", err, r))
		}
	}
	return cmp.Or(errors.Join(errs...), counted(fault, "connections broken", len(errs), 0, 0))
}

// TestFigures: what is beyond its limit is an error, what the machine spoiled is no
// figure, and the table has medians and worst.
func TestFigures(t *testing.T) {
	var f figures
	for _, ms := range []float64{300, 100, 200} {
		f.note("a fault", "stall", "ms", ms, 1000, false)
	}
	f.note("a fault", "stall", "ms", 5000, 1000, true)
	f.note("a fault", "moves", "", 1, 1, false)
	f.note("another", "stall", "ms", 1, 1000, true)
	want := "fault:  what happens  costs  tries  spoiled  median  worst   must\n" +
		"fault:  a fault       stall  3      1        200 ms  300 ms  1000 ms\n" +
		"fault:  a fault       moves  1      0        1       1       1\n" +
		"fault:  another       stall  0      1        -       -       1000 ms\n"
	if got := f.String(); got != want {
		t.Errorf("\n%s\nwant\n%s", got, want)
	}
	late, moved := f.took("a fault", "stall", 2*time.Second, 0, time.Second), f.counted("a fault", "moves", 2, 0, 1)
	if late == nil || moved == nil || lab.Spoiled(errors.Join(late, moved)) {
		t.Errorf("beyond the limit: %v, %v", late, moved)
	}
	if err := f.counted("a fault", "moves", 2, lab.SpoiledFrom, 1); !lab.Spoiled(err) {
		t.Errorf("while the machine stood still: %v", err)
	}
	if got := f.String(); !strings.Contains(got, "2000 ms") || strings.Count(got, "\n") != 4 {
		t.Errorf("then\n%s", got)
	}
}

// term is of the arbiter that a node obeys.
func (h *host) term() (int, error) {
	status, err := h.status()
	if err != nil {
		return 0, err
	}
	_, term, _ := strings.Cut(status.Fence, ".")
	return strconv.Atoi(term)
}

// agree is nil when these hosts say alike that all members are up, and who leads.
func agree(asked ...*host) error {
	arbiters := map[string]bool{}
	for _, h := range asked {
		answer, err := ask[control.Members](h, "members")
		if err != nil {
			return err
		}
		for _, member := range answer.Members {
			if member.State != "up" {
				return fmt.Errorf("%s says that %s is %s", h.Name, member.Name, member.State)
			}
			if member.Arbiter {
				arbiters[member.Name] = true
			}
		}
	}
	if len(arbiters) != 1 {
		return fmt.Errorf("arbiters: %v", arbiters)
	}
	return nil
}

// agreeWithin waits for that, and gives how long it took since then.
func (m *mesh) agreeWithin(limit time.Duration, since time.Time, asked ...*host) (time.Duration, error) {
	for {
		err := agree(asked...)
		if passed := time.Since(since); err == nil || passed > limit {
			return passed, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// othersThan are all nodes but one, which may be hung or cut off.
func (m *mesh) othersThan(v *host) []*host {
	return slices.DeleteFunc(slices.Clone(m.nodes), func(n *host) bool { return n == v })
}

// ways are a paced transfer each way.
type ways struct{ down, up *lab.Transfer }

// pacedBoth begins both, and waits until they flow.
func (m *mesh) pacedBoth() *ways {
	m.Helper()
	w := &ways{m.transfer(lab.Plan{Down: true, Pace: partPace}), m.transfer(lab.Plan{Pace: partPace})}
	m.flowingBy(2<<20, w.down, w.up)
	return w
}

func (w *ways) forget() {
	w.down.Forget()
	w.up.Forget()
}

func (w *ways) stall() time.Duration { return max(w.down.Stall(), w.up.Stall()) }

func (w *ways) finish() []lab.Report {
	return []lab.Report{w.down.Finish(within(20 * time.Second)), w.up.Finish(within(20 * time.Second))}
}

// drop breaks both off.
func (w *ways) drop() {
	w.down.Finish(within(0))
	w.up.Finish(within(0))
}
