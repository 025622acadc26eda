package load

import (
	"io/fs"
	"path"
	"strings"
)

// quota is the least CPU limit that a control group of ours, or one above it,
// sets now; 0 is none. What cannot be read limits nothing.
func quota(root fs.FS) float64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return 0
	}
	least := 0.0
	for _, g := range parseGroups(string(groups)) {
		for _, m := range parseMounts(string(mounts)) {
			if m.v2 != g.v2 {
				continue
			}
			for _, dir := range dirs(m, g) {
				if limit := limitOf(root, dir, m.v2); limit > 0 && (least == 0 || limit < least) {
					least = limit
				}
			}
		}
	}
	return least
}

// dirs lists a group's directory and those above it, as far as they are seen.
func dirs(m mount, g group) (all []string) {
	below, ok := strings.CutPrefix(g.path, strings.TrimSuffix(m.root, "/"))
	if !ok || strings.Contains(below, "..") {
		below = "/" // another view of the hierarchy: only its top is ours for sure
	}
	for range MaxGroupDepth {
		all = append(all, strings.TrimPrefix(path.Join(m.point, below), "/"))
		if below == "/" || below == "" || below == "." {
			return all
		}
		below = path.Dir(below)
	}
	return all
}

func limitOf(root fs.FS, dir string, v2 bool) float64 {
	if v2 {
		text, err := fs.ReadFile(root, path.Join(dir, "cpu.max"))
		if err != nil {
			return 0
		}
		return parseMax(string(text))
	}
	quota, err := fs.ReadFile(root, path.Join(dir, "cpu.cfs_quota_us"))
	if err != nil {
		return 0
	}
	period, err := fs.ReadFile(root, path.Join(dir, "cpu.cfs_period_us"))
	if err != nil {
		return 0
	}
	return ratio(string(quota), string(period))
}
