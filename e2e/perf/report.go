package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// result is the medians of one line, on one kind of link, in one direction.
type result struct {
	name, mode, direction string
	line                  line
	a, b                  sample
}

func (r result) throughput() float64 { return r.a.mbit / r.b.mbit }
func (r result) cpu() float64        { return r.a.cpuPerG / r.b.cpuPerG }

// missed names what the result had to reach and did not.
func (r result) missed() (list []string) {
	if hold := r.line.throughput; hold > 0 && r.throughput() < hold {
		list = append(list, fmt.Sprintf("%s %s %s: throughput %.2f, to hold at least %.2f", r.name, r.mode, r.direction, r.throughput(), hold))
	}
	if hold := r.line.cpu; hold > 0 && r.cpu() > hold {
		list = append(list, fmt.Sprintf("%s %s %s: CPU for a GB %.2f, to hold at most %.2f", r.name, r.mode, r.direction, r.cpu(), hold))
	}
	return list
}

func (b *bench) report(r result) {
	b.results = append(b.results, r)
	fmt.Fprintf(b.out, "%-9s %-4s %-4s %s  A = %s: %v\n%28sB = %s: %v\n%28sA/B throughput %.2f, CPU for a GB %.2f (%d rounds, first dropped, medians)\n",
		r.name, r.mode, r.direction, b.cc, r.line.aName, r.a, "", r.line.bName, r.b, "", r.throughput(), r.cpu(), b.rounds)
}

// table is the one of the README: a row for each line, a column for each kind
// of link and direction.
func table(out io.Writer, results []result) {
	var columns, rows []string
	cells := make(map[[2]string]string)
	for _, r := range results {
		column, row := r.mode+" "+r.direction, fmt.Sprintf("%s, by %s", r.line.bName, r.line.aName)
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
		if !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
		cells[[2]string{row, column}] = fmt.Sprintf("%.2f (%.2f)", r.throughput(), r.cpu())
	}
	fmt.Fprintf(out, "\n| throughput (and CPU for a GB) against | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, row := range rows {
		fmt.Fprintf(out, "| %s |", row)
		for _, column := range columns {
			fmt.Fprintf(out, " %s |", cells[[2]string{row, column}])
		}
		fmt.Fprintln(out)
	}
}

// verdict lists what was missed, and the most that the host of this machine
// took away meanwhile: ratios survive that, megabits do not.
func verdict(out io.Writer, results []result) (missed int) {
	steal := 0.0
	for _, r := range results {
		steal = max(steal, r.a.steal, r.b.steal)
		for _, text := range r.missed() {
			fmt.Fprintf(out, "MISSED %s\n", text)
			missed++
		}
	}
	fmt.Fprintf(out, "\nsteal: at most %.1f%% in a median; %d of what is to hold was missed\n", 100*steal, missed)
	return missed
}
