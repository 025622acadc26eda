package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Way is how one transfer ended.
type Way struct {
	Wanted   uint64 `json:"bytes_wanted"`
	Sent     uint64 `json:"bytes_sent"`
	Received uint64 `json:"bytes_received"`
	SentSum  string `json:"sha256_sent"`
	GotSum   string `json:"sha256_received"`
	StallMS  int64  `json:"longest_stall_ms"`
	Failure  string `json:"failure,omitempty"`

	heard time.Duration // when its receiver last told of progress
}

// take notes what one end of the transfer told, and when.
func (w *Way) take(e event, at time.Duration) {
	switch e.Kind {
	case eventSent:
		w.Sent, w.SentSum = e.Bytes, e.SHA256
	case eventProgress:
		w.Received, w.StallMS, w.heard = e.Bytes, e.Stall.Milliseconds(), at
	case eventReceived:
		w.Received, w.GotSum, w.StallMS = e.Bytes, e.SHA256, e.Stall.Milliseconds()
	case eventFailed:
		if w.Failure == "" {
			w.Failure = e.Reason
		}
		w.StallMS = max(w.StallMS, e.Stall.Milliseconds())
	}
}

// giveUp closes a transfer that did not end: it stands still to this moment.
func (w *Way) giveUp(at time.Duration) {
	if w.done() {
		return
	}
	w.Failure = fmt.Sprintf("not through after %.0f s", at.Seconds())
	if w.Received > 0 && w.GotSum == "" {
		w.StallMS = max(w.StallMS, (at - w.heard).Milliseconds())
	}
}

// done reports whether nothing more will come.
func (w *Way) done() bool { return w.Failure != "" || w.SentSum != "" && w.GotSum != "" }

func (w *Way) equal() bool { return w.SentSum != "" && w.SentSum == w.GotSum }

func (w *Way) problems(name string) (list []string) {
	switch {
	case w.Failure != "":
		list = append(list, fmt.Sprintf("%s broke off: %s", name, w.Failure))
	case w.Received != w.Wanted:
		list = append(list, fmt.Sprintf("%s moved %d of %d bytes", name, w.Received, w.Wanted))
	case !w.equal():
		list = append(list, name+" arrived with another hash than it left with")
	}
	if limit := MaxStall.Milliseconds(); w.StallMS > limit {
		list = append(list, fmt.Sprintf("%s stood still for %d ms, limit %d", name, w.StallMS, limit))
	}
	return list
}

// Verdict is what a demo comes to.
type Verdict struct {
	Schema   string   `json:"schema"`
	Result   string   `json:"result"` // PASS or FAIL
	Problems []string `json:"problems"`
	Seconds  float64  `json:"seconds"`
	Down     Way      `json:"download"`
	Up       Way      `json:"upload"`
	Lost     int      `json:"sessions_lost"`
	Killed   string   `json:"killed"`
	Healed   bool     `json:"healed"`
	Shares   []Share  `json:"shares"`
	// Carried is what the agents counted of both transfers.
	Carried carried `json:"-"`
	// Shows and ShowsNot are said where the demo is less than it could be, the
	// first by PASS alone.
	Shows    string `json:"shows,omitempty"`
	ShowsNot string `json:"shows_not,omitempty"`
	// ended is what was to stay until the end, and did not; nil: all did.
	ended *gone
	// lacked is what the machine did not give; of interest where something is wrong.
	lacked string
}

// judge fills in the result.
func (v *Verdict) judge() {
	v.Schema = "meshcrypt.demo/v1"
	v.Problems = nil
	if v.ended != nil {
		v.Problems = append(v.Problems, v.ended.Error())
	}
	v.Problems = append(v.Problems, v.Down.problems("the download")...)
	v.Problems = append(v.Problems, v.Up.problems("the upload")...)
	if v.Lost > 0 {
		v.Problems = append(v.Problems, fmt.Sprintf("%d sessions were lost", v.Lost))
	}
	if v.Killed == "" {
		v.Problems = append(v.Problems, "no agent was killed: nothing was proven")
	} else if !v.Healed {
		v.Problems = append(v.Problems, v.Killed+" did not come back")
	}
	for _, way := range []struct {
		name string
		of   func(Share) float64
	}{{"download", func(s Share) float64 { return s.Down }}, {"upload", func(s Share) float64 { return s.Up }}} {
		if n := carriers(v.Shares, way.of); n < 2 {
			v.Problems = append(v.Problems, fmt.Sprintf("the %s was not sliced: %d agents carried it", way.name, n))
		}
	}
	v.Problems = append(v.Problems, v.bypass()...)
	v.Result = "PASS"
	if len(v.Problems) > 0 {
		v.Result, v.Shows = "FAIL", ""
		if v.lacked != "" {
			v.Problems = append(v.Problems, v.lacked)
		}
	}
}

// bypass names what did not pass the agents. What the killed one carried last,
// nobody heard of.
func (v *Verdict) bypass() (list []string) {
	for _, way := range []struct {
		name           string
		moved, carried uint64
	}{{"download", v.Down.Received, v.Carried.down}, {"upload", v.Up.Received, v.Carried.up}} {
		if way.carried < way.moved/2 {
			list = append(list, fmt.Sprintf("the %s went past the mesh: agents carried %d of %d bytes", way.name, way.carried, way.moved))
		}
	}
	return list
}

func carriers(shares []Share, of func(Share) float64) (n int) {
	for _, s := range shares {
		if of(s) > 0 {
			n++
		}
	}
	return n
}

// write prints the verdict.
func (v *Verdict) write(w io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\tDOWNLOAD\tUPLOAD")
	fmt.Fprintf(t, "bytes\t%s\t%s\n", v.Down.amount(), v.Up.amount())
	fmt.Fprintf(t, "SHA-256\t%s\t%s\n", v.Down.hashes(), v.Up.hashes())
	fmt.Fprintf(t, "longest stall\t%d ms\t%d ms\n", v.Down.StallMS, v.Up.StallMS)
	for _, s := range v.Shares {
		fmt.Fprintf(t, "share of %s\t%.1f%%\t%.1f%%\n", s.Agent, 100*s.Down, 100*s.Up)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "sessions lost %d, killed %s, %.0f s\n", v.Lost, v.Killed, v.Seconds)
	for _, problem := range v.Problems {
		fmt.Fprintln(w, "problem:", problem)
	}
	if v.Shows != "" {
		fmt.Fprintf(w, "this showed %s;\nit did not show %s\n", v.Shows, v.ShowsNot)
	}
	_, err := fmt.Fprintln(w, v.Result)
	return err
}

func (w *Way) amount() string { return fmt.Sprintf("%d of %d", w.Received, w.Wanted) }

func (w *Way) hashes() string {
	if w.equal() {
		return "equal " + w.GotSum[:16] + "..."
	}
	return "NOT equal"
}

// speed is goodput between two moments, in Mbit/s.
func speed(before, now uint64, took time.Duration) float64 {
	if now <= before || took <= 0 {
		return 0
	}
	return float64(now-before) * 8 / 1e6 / took.Seconds()
}
