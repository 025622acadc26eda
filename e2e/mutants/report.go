package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// report prints the table and the survivors, and says whether all is well: all
// were tried, and who survived is known to change nothing.
func report(w io.Writer, results []result, chosen int, equivalent map[string]string) bool {
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.Name, b.Name) })
	counts, dirs, open := make(map[string]map[string]int), []string{}, []result{}
	for _, one := range results {
		if counts[one.Dir] == nil {
			counts[one.Dir], dirs = make(map[string]int), append(dirs, one.Dir)
		}
		fate := one.Fate
		if _, known := equivalent[one.Name]; known && fate == survived {
			fate = "equivalent"
		} else if fate == survived {
			open = append(open, one)
		}
		counts[one.Dir][fate]++
		counts[""] = total(counts[""], fate)
	}
	slices.Sort(dirs)
	columns := []string{killed, timedOut, refused, "equivalent", survived}
	fmt.Fprintf(w, "%-22s", "package")
	for _, c := range columns {
		fmt.Fprintf(w, " %16s", c)
	}
	fmt.Fprintln(w)
	for _, dir := range append(dirs, "") {
		fmt.Fprintf(w, "%-22s", cmp.Or(dir, "all"))
		for _, c := range columns {
			fmt.Fprintf(w, " %16d", counts[dir][c])
		}
		fmt.Fprintln(w)
	}
	for _, one := range open {
		fmt.Fprintf(w, "\nsurvived: %s\n  %s\n", one.Name, one.Diff)
	}
	left := chosen - len(results)
	if left > 0 {
		fmt.Fprintf(w, "\nnot tried for want of time: %d of %d\n", left, chosen)
	}
	return len(open) == 0 && left == 0
}

func total(counts map[string]int, fate string) map[string]int {
	if counts == nil {
		counts = make(map[string]int)
	}
	counts[fate]++
	return counts
}
