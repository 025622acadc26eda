package load

import (
	"fmt"
	"io/fs"
	"math"
	"testing"
	"testing/fstest"
	"time"
)

// machine is a host with an account that a test writes.
type machine struct {
	root fstest.MapFS
	own  time.Duration
}

func newMachine() *machine { return &machine{root: fstest.MapFS{}} }

func (m *machine) write(path, text string) { m.root[path] = &fstest.MapFile{Data: []byte(text)} }

// stat writes /proc/stat of a host with cpus CPUs.
func (m *machine) stat(cpus int, busy, idle uint64) {
	text := fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 0 0 0\n", busy, idle)
	for i := range cpus {
		text += fmt.Sprintf("cpu%d 1 1 1 1 1 1 1 1 0 0\n", i)
	}
	m.write("proc/stat", text+"intr 1 2 3\n")
}

func (m *machine) meter(offered uint32) *Meter {
	return newMeter(m.root, func() (time.Duration, error) { return m.own, nil }, offered)
}

// after gives the load of one second in which busy hundredths were used, own
// of them by this process, on a host of cpus CPUs.
func (m *machine) after(t *testing.T, meter *Meter, cpus int, busy uint64, own time.Duration) float64 {
	t.Helper()
	m.stat(cpus, 1000, 5000)
	if first, err := meter.Load(); err != nil || first != 0 {
		t.Fatalf("the first reading is %v, %v", first, err)
	}
	m.stat(cpus, 1000+busy, 5000+uint64(cpus)*100-busy)
	m.own += own
	load, err := meter.Load()
	if err != nil {
		t.Fatal(err)
	}
	return load
}

func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name    string
		cpus    int
		offered uint32
		busy    uint64
		own     time.Duration
		want    float64
	}{
		{"idle", 2, 0, 0, 0, 0},
		{"own use of all", 2, 0, 100, time.Second, 0.5},
		{"foreign use counts like own", 2, 0, 100, 0, 0.5},
		{"both", 4, 0, 300, time.Second, 0.75},
		{"half a CPU offered and used", 2, 500, 50, 500 * time.Millisecond, 1},
		{"foreign use beside the offered part is none of ours", 8, 2000, 600, 0, 0},
		{"foreign use eats into the offered part", 8, 2000, 700, 0, 0.5},
		{"foreign beside own", 8, 2000, 700, time.Second, 0.5},
		{"own counts at least", 8, 2000, 100, time.Second, 0.5},
		{"more than offered", 2, 500, 200, 2 * time.Second, 1},
		{"offered more than there is", 2, 9000, 100, time.Second, 0.5},
		{"own account ahead of the host's", 2, 0, 50, time.Second, 0.5},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine()
			got := m.after(t, m.meter(test.offered), test.cpus, test.busy, test.own)
			if math.Abs(got-test.want) > 1e-9 {
				t.Errorf("load %v, want %v", got, test.want)
			}
		})
	}
}

// TestQuotaIsTheCapacity: a control group's limit is what a node has to offer.
func TestQuotaIsTheCapacity(t *testing.T) {
	m := newMachine()
	m.write("proc/self/cgroup", "0::/a\n")
	m.write("proc/self/mountinfo", "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	m.write("sys/fs/cgroup/a/cpu.max", "50000 100000\n")
	meter := m.meter(0)
	if got := m.after(t, meter, 2, 50, 500*time.Millisecond); got != 1 {
		t.Errorf("half a CPU of half a CPU is load %v", got)
	}
	if got, err := meter.Capacity(); err != nil || got != 500 {
		t.Errorf("capacity %d, %v", got, err)
	}
}

func TestCapacity(t *testing.T) {
	m := newMachine()
	m.stat(2, 1, 1)
	for offered, want := range map[uint32]uint32{0: 2000, 250: 250, 9000: 2000} {
		if got, err := m.meter(offered).Capacity(); err != nil || got != want {
			t.Errorf("offered %d: capacity %d, %v, want %d", offered, got, err, want)
		}
	}
}

// TestTooSoon: below MinTicks the last answer stands, and the time is not lost.
func TestTooSoon(t *testing.T) {
	m := newMachine()
	meter := m.meter(0)
	if got := m.after(t, meter, 1, 50, 0); got != 0.5 {
		t.Fatalf("load %v", got)
	}
	m.stat(1, 1050+MinTicks-1, 5050)
	if got, err := meter.Load(); err != nil || got != 0.5 {
		t.Errorf("after %d ticks: %v, %v", MinTicks-1, got, err)
	}
	m.stat(1, 1050+MinTicks, 5050)
	if got, err := meter.Load(); err != nil || got != 1 {
		t.Errorf("after %d ticks: %v, %v", MinTicks, got, err)
	}
}

// TestBackwards: a restored machine's account may be behind the one it had.
func TestBackwards(t *testing.T) {
	now := sample{host: host{cpus: 1, busy: 5, total: 100}}
	before := sample{host: host{cpus: 1, busy: 50, total: 80}}
	if got := used(before, now, 1); got != 0 {
		t.Errorf("busy went back: %v", got)
	}
	if got := used(now, before, 1); got != 0 {
		t.Errorf("total went back: %v", got)
	}
}

func TestUnreadable(t *testing.T) {
	m := newMachine()
	if _, err := m.meter(0).Load(); err == nil {
		t.Error("no /proc/stat is no error")
	}
}

// TestThisHost reads the real files.
func TestThisHost(t *testing.T) {
	meter := New(0)
	if _, err := meter.Load(); err != nil {
		t.Fatal(err)
	}
	capacity, err := meter.Capacity()
	if err != nil || capacity == 0 {
		t.Errorf("capacity %d, %v", capacity, err)
	}
}

func TestCalibrate(t *testing.T) {
	whole, tenth := Calibrate(time.Millisecond, 0), Calibrate(time.Millisecond, 100)
	if tenth == 0 || whole < tenth {
		t.Errorf("this host can carry %d Mbit/s, a tenth of a CPU %d", whole, tenth)
	}
	if got := estimate(750e6, 2); got != 2000 {
		t.Errorf("750 MB/s on 2 CPUs: %d Mbit/s", got)
	}
	if got := estimate(0, 1); got != 1 {
		t.Errorf("nothing measured: %d", got)
	}
	if got := estimate(math.MaxFloat64, 64); got != math.MaxUint32 {
		t.Errorf("beyond the field: %d", got)
	}
}

// TestAlone: a meter that shares its machine counts its own use only.
func TestAlone(t *testing.T) {
	m := newMachine()
	meter := m.meter(0)
	meter.Alone()
	if got := m.after(t, meter, 2, 200, 500*time.Millisecond); math.Abs(got-0.25) > 1e-9 {
		t.Errorf("load %v of a quarter used here and the rest elsewhere", got)
	}
}

// opens counts how often files of a host are read.
type opens struct {
	fs.FS
	of map[string]int
}

func (o opens) Open(name string) (fs.File, error) {
	o.of[name]++
	return o.FS.Open(name)
}

// TestQuotaIsReadSeldom: a reading costs the kernel's account of the CPUs, and what control
// groups allow is looked for every few seconds, and obeyed then.
func TestQuotaIsReadSeldom(t *testing.T) {
	m := newMachine()
	m.write("proc/self/cgroup", "0::/a\n")
	m.write("proc/self/mountinfo", "30 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	m.write("sys/fs/cgroup/a/cpu.max", "max 100000\n")
	counted := opens{m.root, map[string]int{}}
	meter := newMeter(counted, func() (time.Duration, error) { return 0, nil }, 0)
	var load float64
	read := func(second uint64) {
		m.stat(2, 1000+50*second, 5000+150*second)
		var err error
		if load, err = meter.Load(); err != nil {
			t.Fatal(err)
		}
	}
	for second := range uint64(5) {
		read(second)
	}
	m.write("sys/fs/cgroup/a/cpu.max", "50000 100000\n")
	if read(5); counted.of["proc/self/mountinfo"] != 1 || counted.of["proc/stat"] != 6 || load != 0.25 {
		t.Errorf("in five seconds read %v, load %v", counted.of, load)
	}
	read(6)
	if m.stat(2, 1400, 6900); counted.of["proc/self/mountinfo"] != 2 {
		t.Errorf("in six seconds read %v", counted.of)
	}
	if got, err := meter.Capacity(); err != nil || got != 500 {
		t.Errorf("capacity %d, %v", got, err)
	}
}
