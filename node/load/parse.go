package load

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrFormat says that the kernel's text is not what it has been so far.
var ErrFormat = errors.New("load: unexpected text")

// host is the machine's account in ticks since its start.
type host struct {
	cpus        int
	busy, total uint64
}

// Columns of a cpu line; guest time stands in user and nice already.
const (
	columnIdle   = 3
	columnIOWait = 4
	columnSteal  = 7
)

// parseStat reads /proc/stat. Stolen time is busy: it is not ours to offer.
func parseStat(text string) (h host, err error) {
	found := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || !strings.HasPrefix(fields[0], "cpu"):
			continue
		case fields[0] != "cpu":
			h.cpus++
			continue
		}
		found = true
		for i, field := range fields[1:min(len(fields), columnSteal+2)] {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return host{}, fmt.Errorf("%w: /proc/stat: %w", ErrFormat, err)
			}
			h.total += n
			if i != columnIdle && i != columnIOWait {
				h.busy += n
			}
		}
	}
	if !found || h.cpus == 0 || h.total == 0 {
		return host{}, fmt.Errorf("%w: /proc/stat has no cpu lines", ErrFormat)
	}
	return h, nil
}

// group is where a process stands in one hierarchy of control groups.
type group struct {
	v2   bool
	path string
}

// parseGroups finds, in /proc/self/cgroup, the hierarchy that holds the cpu
// controller under version 1, and the one of version 2.
func parseGroups(text string) (found []group) {
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(parts) != 3 || !strings.HasPrefix(parts[2], "/") {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			found = append(found, group{v2: true, path: parts[2]})
		case hasWord(parts[1], "cpu"):
			found = append(found, group{path: parts[2]})
		}
	}
	return found
}

// mount is where a hierarchy is seen; only the part below root is.
type mount struct {
	v2          bool
	root, point string
}

// parseMounts finds them in /proc/self/mountinfo.
func parseMounts(text string) (found []mount) {
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(kind) < 3 {
			continue
		}
		switch {
		case kind[0] == "cgroup2":
			found = append(found, mount{v2: true, root: fields[3], point: fields[4]})
		case kind[0] == "cgroup" && hasWord(kind[2], "cpu"):
			found = append(found, mount{root: fields[3], point: fields[4]})
		}
	}
	return found
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// parseMax reads version 2's cpu.max, "quota period" or "max period", as a
// number of CPUs; 0 is no limit.
func parseMax(text string) float64 {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return 0
	}
	return ratio(fields[0], fields[1])
}

// ratio is quota over period; version 1 writes -1 for no limit, version 2 max.
func ratio(quota, period string) float64 {
	q, err := strconv.ParseInt(strings.TrimSpace(quota), 10, 64)
	p, err2 := strconv.ParseInt(strings.TrimSpace(period), 10, 64)
	if err != nil || err2 != nil || q <= 0 || p <= 0 {
		return 0
	}
	return float64(q) / float64(p)
}
