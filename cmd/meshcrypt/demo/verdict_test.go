package demo

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

func TestStall(t *testing.T) {
	for _, c := range []struct {
		at   []time.Duration
		want time.Duration
	}{
		{nil, 0},
		{[]time.Duration{900}, 0}, // before the first byte nothing stalls
		{[]time.Duration{900, 950, 1400, 1450}, 450},
		{[]time.Duration{0, 300, 400}, 300},
	} {
		var s stall
		for _, at := range c.at {
			s.progress(at)
		}
		if s.longest != c.want {
			t.Errorf("%v: %d, want %d", c.at, s.longest, c.want)
		}
	}
}

// TestReceiver: the pause between the last byte and the end counts too.
func TestReceiver(t *testing.T) {
	var out bytes.Buffer
	var now time.Duration
	r := newReceiver(wayUp, &events{w: &out}, func() time.Duration { return now })
	for _, at := range []time.Duration{time.Second, 1200 * time.Millisecond} {
		now = at
		r.Write([]byte("abc"))
	}
	now = 2 * time.Second
	r.end(nil)
	var all []event
	lines(&out, func(line []byte) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	})
	last := all[len(all)-1]
	// SHA-256 of "abcabc".
	const sum = "bbb59da3af939f7af5f360f2ceb80a496e3bae1cd87dde426db0ae40677e1c2c"
	if len(all) != 3 || last.Kind != eventReceived || last.Bytes != 6 || last.Stall != 800*time.Millisecond || last.SHA256 != sum {
		t.Errorf("%+v", all)
	}
}

func good() Verdict {
	way := Way{Wanted: 10, Sent: 10, Received: 10, SentSum: strings.Repeat("a", 64), GotSum: strings.Repeat("a", 64), StallMS: MaxStall.Milliseconds()}
	return Verdict{Down: way, Up: way, Killed: "n2", Healed: true, Shares: []Share{{"n2", 0.4, 0.5}, {"n3", 0.6, 0.5}},
		Carried: carried{up: 10, down: 10}}
}

// TestVerdict: each thing that can go wrong alone makes it FAIL, with its reason.
func TestVerdict(t *testing.T) {
	v := good()
	if v.judge(); v.Result != "PASS" || len(v.Problems) != 0 {
		t.Fatalf("%+v", v)
	}
	for reason, spoil := range map[string]func(*Verdict){
		"download moved 9 of 10":        func(v *Verdict) { v.Down.Received = 9 },
		"upload arrived with another":   func(v *Verdict) { v.Up.GotSum = strings.Repeat("b", 64) },
		"download arrived with another": func(v *Verdict) { v.Down.SentSum, v.Down.GotSum = "", "" },
		"upload broke off: reset":       func(v *Verdict) { v.Up.Failure = "reset" },
		"download stood still":          func(v *Verdict) { v.Down.StallMS++ },
		"1 sessions were lost":          func(v *Verdict) { v.Lost = 1 },
		"nothing was proven":            func(v *Verdict) { v.Killed = "" },
		"n2 did not come back":          func(v *Verdict) { v.Healed = false },
		"download went past the mesh":   func(v *Verdict) { v.Carried.down = 4 },
		"upload went past the mesh":     func(v *Verdict) { v.Carried = carried{down: 10} },
		"upload was not sliced: 1":      func(v *Verdict) { v.Shares[0].Up = 0 },
		"download was not sliced: 0":    func(v *Verdict) { v.Shares[0].Down, v.Shares[1].Down = 0, 0 },
	} {
		v := good()
		v.Shows = "what it did"
		spoil(&v)
		if v.judge(); v.Shows != "" {
			t.Errorf("%s: it shows nothing", reason)
		}
		if v.Result != "FAIL" || !slices.ContainsFunc(v.Problems, func(p string) bool { return strings.Contains(p, reason) }) {
			t.Errorf("%s: %s %q", reason, v.Result, v.Problems)
		}
		var out bytes.Buffer
		if err := v.write(&out, false); err != nil || !strings.HasSuffix(out.String(), "FAIL\n") || !strings.Contains(out.String(), reason) {
			t.Errorf("%s: %v\n%s", reason, err, out.String())
		}
	}
}

func TestWayTakesEvents(t *testing.T) {
	w := Way{Wanted: 5}
	for _, e := range []event{
		{Kind: eventProgress, Bytes: 2}, {Kind: eventSent, Bytes: 5, SHA256: "x"},
		{Kind: eventReceived, Bytes: 5, SHA256: "x", Stall: 30 * time.Millisecond},
	} {
		if w.done() {
			t.Errorf("done before %+v", e)
		}
		w.take(e, 0)
	}
	if !w.done() || w.StallMS != 30 || len(w.problems("it")) != 0 {
		t.Errorf("%+v", w)
	}
	broken := Way{}
	broken.take(event{Kind: eventFailed, Reason: "first"}, 0)
	broken.take(event{Kind: eventFailed, Reason: "second"}, 0)
	if !broken.done() || broken.Failure != "first" {
		t.Errorf("%+v", broken)
	}
}

// TestGiveUp: a transfer that stopped for good stands still until the end.
func TestGiveUp(t *testing.T) {
	w := Way{Wanted: 5}
	w.take(event{Kind: eventProgress, Bytes: 2, Stall: 30 * time.Millisecond}, 4*time.Second)
	w.giveUp(9 * time.Second)
	if w.StallMS != 5000 || !w.done() || len(w.problems("it")) != 2 {
		t.Errorf("%+v %q", w, w.problems("it"))
	}
	finished := Way{Wanted: 5, SentSum: "x", GotSum: "x", StallMS: 7}
	if finished.giveUp(time.Minute); finished.StallMS != 7 || finished.Failure != "" {
		t.Errorf("%+v", finished)
	}
}

func slice(number uint8, epoch uint32, agent string, in, out uint64) control.Slice {
	return control.Slice{Number: number, Epoch: epoch, Agent: agent, In: in, Out: out}
}

// TestLedger: counts of a slice that moved away stay, those of a later look
// replace earlier ones.
func TestLedger(t *testing.T) {
	var l ledger
	if l.busiest("") != "" || len(l.shares()) != 0 {
		t.Error("an empty ledger has a busiest agent")
	}
	l.note(control.Session{ID: "s", Slices: []control.Slice{slice(0, 1, "n1", 0, 0), slice(1, 1, "n2", 0, 0)}})
	if l.busiest("") != "" {
		t.Error("busiest before anything was carried")
	}
	l.note(control.Session{ID: "s", Slices: []control.Slice{slice(0, 1, "n1", 10, 30), slice(1, 1, "n2", 40, 20)}})
	l.note(control.Session{ID: "s", Slices: []control.Slice{slice(0, 1, "n1", 20, 60), slice(1, 1, "n2", 5, 5)}})
	l.note(control.Session{ID: "s", Slices: []control.Slice{slice(0, 1, "n1", 20, 60), slice(1, 2, "n3", 20, 20)}})
	want := []Share{{"n1", 0.25, 0.6}, {"n2", 0.5, 0.2}, {"n3", 0.25, 0.2}}
	if got := l.shares(); !slices.Equal(got, want) {
		t.Errorf("shares %+v, want %+v", got, want)
	}
	if got, other := l.busiest(""), l.busiest("n1"); got != "n1" || other != "n2" {
		t.Errorf("busiest %s, but for that %s", got, other)
	}
	if sum := l.sum(); sum != (carried{80, 100}) {
		t.Errorf("carried %+v", sum)
	}
}

func TestStatusLine(t *testing.T) {
	l := statusLine{}
	l.next(time.Second, 1_000_000, 0, roles{})
	got := l.next(2*time.Second, 26_000_000, 12_500_000, roles{
		slices: map[string][]string{"n3": {"1"}, "n2": {"0", "2"}}, gateways: []string{"n1"}, egress: "n1", arbiter: "n2"})
	const want = "  2 s  down  200.0  up  100.0 Mbit/s  slice 0+2 at n2, 1 at n3  gateway n1  egress n1  arbiter n2"
	if got != want {
		t.Errorf("\n%q, want\n%q", got, want)
	}
	if speed(5, 3, time.Second) != 0 || speed(0, 5, 0) != 0 {
		t.Error("speed of nothing")
	}
}
