package load

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const statText = `cpu  90 10 30 400 20 1 4 5 7 8
cpu0 45 5 15 200 10 1 2 3 4 5
cpu1 45 5 15 200 10 0 2 2 3 3
intr 8273 0 0
ctxt 19
`

func TestParseStat(t *testing.T) {
	got, err := parseStat(statText)
	// Guest time, the last two columns, stands in user already.
	want := host{cpus: 2, busy: 90 + 10 + 30 + 1 + 4 + 5, total: 90 + 10 + 30 + 400 + 20 + 1 + 4 + 5}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestParseStatOfOldKernels(t *testing.T) {
	got, err := parseStat("cpu 1 2 3 4\ncpu0 1 2 3 4\n")
	if want := (host{cpus: 1, busy: 6, total: 10}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseStatRefuses(t *testing.T) {
	for _, text := range []string{"", "intr 5\n", "cpu  1 2 3 4\n", "cpu  a b c d\ncpu0 1\n", "cpu\ncpu0 1\n", "cpu -1 2\ncpu0 1\n"} {
		if got, err := parseStat(text); !errors.Is(err, ErrFormat) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestParseGroups(t *testing.T) {
	text := "9:name=systemd:/\n3:cpuset:/x\n2:cpu,cpuacct:/v1/a\n0::/v2/b:c\nbad\n1:cpu:relative\n"
	want := []group{{path: "/v1/a"}, {v2: true, path: "/v2/b:c"}}
	if got := parseGroups(text); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

const mountText = `25 1 254:0 / / rw,relatime - ext4 /dev/root rw
31 25 0:26 / /sys/fs/cgroup/cpu rw,nosuid shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct
32 25 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
33 25 0:28 /docker/77 /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
broken line
`

func TestParseMounts(t *testing.T) {
	want := []mount{
		{root: "/", point: "/sys/fs/cgroup/cpu"},
		{v2: true, root: "/docker/77", point: "/sys/fs/cgroup/unified"},
	}
	if got := parseMounts(mountText); !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestParseMax(t *testing.T) {
	for text, want := range map[string]float64{
		"max 100000\n": 0, "150000 100000\n": 1.5, "1000 10000": 0.1, "": 0, "5": 0, "0 100": 0, "9 0": 0, "x y": 0,
	} {
		if got := parseMax(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestQuota(t *testing.T) {
	for _, test := range []struct {
		name, groups string
		files        map[string]string
		want         float64
	}{
		{"none", "0::/a\n2:cpu:/b\n", nil, 0},
		{"version 1", "2:cpu,cpuacct:/b\n", map[string]string{
			"sys/fs/cgroup/cpu/b/cpu.cfs_quota_us": "25000\n", "sys/fs/cgroup/cpu/b/cpu.cfs_period_us": "100000\n"}, 0.25},
		{"version 1 without a limit", "2:cpu:/b\n", map[string]string{
			"sys/fs/cgroup/cpu/b/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/b/cpu.cfs_period_us": "100000\n"}, 0},
		{"version 2 below the root of the mount", "0::/docker/77/x/y\n", map[string]string{
			"sys/fs/cgroup/unified/x/y/cpu.max": "max 100000\n", "sys/fs/cgroup/unified/x/cpu.max": "300000 100000\n"}, 3},
		{"the least of both", "0::/docker/77\n2:cpu:/\n", map[string]string{
			"sys/fs/cgroup/unified/cpu.max":      "200000 100000\n",
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 0.5},
		{"another view of the hierarchy", "0::/../elsewhere\n", map[string]string{
			"sys/fs/cgroup/unified/cpu.max": "100000 100000\n"}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := fstest.MapFS{
				"proc/self/cgroup":    {Data: []byte(test.groups)},
				"proc/self/mountinfo": {Data: []byte(mountText)},
			}
			for path, text := range test.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := quota(root); got != test.want {
				t.Errorf("quota %v, want %v", got, test.want)
			}
		})
	}
}

// TestGroupDepth: no more than MaxGroupDepth groups are asked (I10).
func TestGroupDepth(t *testing.T) {
	deep := strings.Repeat("/g", MaxGroupDepth)
	m := mount{v2: true, root: "/", point: "/c"}
	if got := len(dirs(m, group{v2: true, path: deep + "/g"})); got != MaxGroupDepth {
		t.Errorf("%d directories", got)
	}
	if got := dirs(m, group{v2: true, path: "/a/b"}); !slices.Equal(got, []string{"c/a/b", "c/a", "c"}) {
		t.Errorf("got %q", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(statText)
	f.Add(mountText)
	f.Add("0::/a\n2:cpu:/b\n")
	f.Add("max 100000")
	f.Fuzz(func(t *testing.T, text string) {
		if h, err := parseStat(text); err == nil && (h.cpus <= 0 || h.total == 0) {
			t.Errorf("accepted %+v", h)
		}
		for _, g := range parseGroups(text) {
			for _, m := range parseMounts(text) {
				dirs(m, g)
			}
		}
		if parseMax(text) < 0 {
			t.Error("a negative limit")
		}
	})
}
