package main

import (
	"bufio"
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/cost"
)

// row is what one thing costs in a mesh of one size.
type row struct {
	what            string
	nodes, sessions int
	cost            time.Duration
}

var (
	sized  = regexp.MustCompile(`^BenchmarkScale/(.+)/nodes=(\d+)/sessions=(\d+)(?:-\d+)?\s`)
	costly = regexp.MustCompile(`\s([0-9.e+]+) ` + cost.Metric)
)

// parse finds the rows in the output of go test.
func parse(out string) (rows []row, err error) {
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		size, spent := sized.FindStringSubmatch(line), costly.FindStringSubmatch(line)
		if size == nil {
			continue
		}
		if spent == nil {
			return nil, fmt.Errorf("no CPU time in %q", line)
		}
		r := row{what: strings.ReplaceAll(size[1], "_", " ")}
		r.nodes, _ = strconv.Atoi(size[2]) // digits
		r.sessions, _ = strconv.Atoi(size[3])
		ns, err := strconv.ParseFloat(spent[1], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		r.cost = time.Duration(ns)
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no row in %d bytes of output", len(out))
	}
	return rows, nil
}

func micro(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d.Nanoseconds())/1e3) }

func table(rows []row, shake time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-34s %6s %9s %12s %12s\n", "what", "nodes", "sessions", "CPU", "handshakes")
	for _, r := range rows {
		fmt.Fprintf(&b, "%-34s %6d %9d %12s %12.3f\n", r.what, r.nodes, r.sessions, micro(r.cost), float64(r.cost)/float64(shake))
	}
	return b.String()
}

// draw is a picture of cost against size: for each thing a line of bars, one for each
// size, each as long as the cost has digits. Bars of one length are a cost that does not
// grow; ten times the size and a bar that is ten characters longer is one that grows
// with it.
func draw(rows []row) (lines []string) {
	lines = append(lines, "cost against size; ten characters more are ten times the cost:")
	byWhat := slices.Clone(rows)
	slices.SortStableFunc(byWhat, func(a, b row) int { return cmp.Compare(a.what, b.what) })
	last := ""
	for _, r := range byWhat {
		if r.what != last {
			lines, last = append(lines, r.what), r.what
		}
		length := int(10 * math.Log10(max(1, float64(r.cost.Nanoseconds())/100)))
		lines = append(lines, fmt.Sprintf("  %5d nodes %7d sessions |%s %s", r.nodes, r.sessions, strings.Repeat("#", length), micro(r.cost)))
	}
	return lines
}
