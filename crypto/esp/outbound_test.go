package esp

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/replay"
)

type span struct{ first, count uint64 }

// spans is a Ledger that remembers.
type spans struct {
	mu   sync.Mutex
	all  []span
	hash [16]byte
}

func (s *spans) Reserved(keyHash [16]byte, first, count uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hash = keyHash
	s.all = append(s.all, span{first, count})
}

func TestReserveStopsAtTheHardLimit(t *testing.T) {
	l := Limits{SoftPackets: 5, HardPackets: 10, SoftBytes: 1 << 30, HardBytes: 1 << 30}
	out, _ := pair(t, testSPI, testKey(t), l, nil)
	for _, c := range []struct {
		packets int
		first   uint64
		soft    bool
	}{{1, 1, false}, {3, 2, false}, {1, 5, true}, {5, 6, true}} {
		first, err := out.Reserve(c.packets, 0)
		if err != nil || first != c.first || out.Soft() != c.soft {
			t.Fatalf("Reserve(%d) = %d, %v, soft %v", c.packets, first, err, out.Soft())
		}
	}
	exhausted(t, out)
}

func TestReserveAcrossTheHardLimitEndsTheKey(t *testing.T) {
	l := Limits{SoftPackets: 10, HardPackets: 10, SoftBytes: 1 << 30, HardBytes: 1 << 30}
	out, _ := pair(t, testSPI, testKey(t), l, nil)
	if _, err := out.Reserve(11, 0); err != ErrExhausted {
		t.Fatal(err)
	}
	exhausted(t, out)
}

func TestReserveByteLimits(t *testing.T) {
	l := Limits{SoftPackets: 1000, HardPackets: 1000, SoftBytes: 4 << 10, HardBytes: 8 << 10}
	out, _ := pair(t, testSPI, testKey(t), l, nil)
	for i, soft := range []bool{false, false, false, true, true, true, true, true} {
		// One byte counts as a whole unit: early, never late.
		if _, err := out.Reserve(1, 1); err != nil || out.Soft() != soft {
			t.Fatalf("reservation %d: %v, soft %v", i, err, out.Soft())
		}
	}
	if _, err := out.Reserve(1, 1); err != ErrExhausted {
		t.Fatal(err)
	}
	exhausted(t, out)
}

// exhausted hammers a used up Outbound with the largest reservations: nothing
// is handed out and the state does not move, so it cannot wrap.
func exhausted(t *testing.T, out *Outbound) {
	t.Helper()
	for range 3 {
		out.Reserve(1, 0)
	}
	before := out.used.Load()
	for range 100_000 {
		if _, err := out.Reserve(MaxReservePackets, MaxReserveBytes); err != ErrExhausted {
			t.Fatalf("an exhausted key was used: %v", err)
		}
	}
	if out.used.Load() != before || !out.Soft() {
		t.Fatal("the state moves after exhaustion")
	}
}

func TestStop(t *testing.T) {
	for _, used := range []uint64{0, 5 << packetShift, (MaxHardPackets - 1) << packetShift, MaxHardPackets << packetShift} {
		out, _ := testPair(t)
		out.used.Store(used)
		out.Stop()
		out.Stop()
		exhausted(t, out)
	}
}

// The headroom of the counter word holds what limits.go promises: every worker
// that looked before the stop may still add its largest reservation.
func TestRacingPastTheLimitCannotWrap(t *testing.T) {
	l := DefaultLimits()
	l.HardBytes = MaxHardBytes
	out, _ := pair(t, testSPI, testKey(t), l, nil)
	for name, start := range map[string]uint64{
		"packets": MaxHardPackets << packetShift,
		"bytes":   MaxHardBytes / byteUnit,
		"stopped": stopped | MaxHardPackets<<packetShift,
	} {
		racers, one := uint64(16_383), uint64(MaxReservePackets<<packetShift|MaxReserveBytes/byteUnit)
		if end := start + racers*one; end < start || !out.exhausted(end) {
			t.Errorf("%s: the word wraps", name)
		}
		for n := uint64(1); n <= racers; n++ {
			if !out.exhausted(start + n*one) {
				t.Fatalf("%s: usable again after %d late reservations", name, n)
			}
		}
	}
}

// I2: however many workers hammer, the intervals are disjoint, gapless until
// the end, and never pass the hard limit.
func TestReserveConcurrently(t *testing.T) {
	const hard, workers = 1_000_000, 8
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers)) // one processor would hide a race
	l := Limits{SoftPackets: hard, HardPackets: hard, SoftBytes: 1 << 40, HardBytes: 1 << 40}
	led := new(spans)
	out, _ := pair(t, testSPI, testKey(t), l, led)
	got := make([][]span, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := 0; n < hard; n++ {
				count := 1 + (n*7+w)%49
				if first, err := out.Reserve(count, 1400*count); err == nil {
					got[w] = append(got[w], span{first, uint64(count)})
				}
			}
		})
	}
	wg.Wait()
	all := slices.Concat(got...)
	byFirst := func(a, b span) int { return int(a.first) - int(b.first) }
	slices.SortFunc(all, byFirst)
	slices.SortFunc(led.all, byFirst)
	if !slices.Equal(all, led.all) {
		t.Fatal("the ledger heard something else than the workers")
	}
	next := uint64(1)
	for _, s := range all {
		if s.first != next {
			t.Fatalf("interval at %d, want %d", s.first, next)
		}
		next += s.count
	}
	if next-1 > hard || next-1 < hard-49 {
		t.Fatalf("handed out up to %d, hard limit %d", next-1, hard)
	}
	exhausted(t, out)
}

func TestLedgerNamesTheKey(t *testing.T) {
	led := new(spans)
	k := testKey(t)
	out, _ := pair(t, testSPI, k, DefaultLimits(), led)
	if _, err := out.Reserve(49, 65_000); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(led.all, []span{{1, 49}}) || led.hash != k.secret().oracleHash() {
		t.Fatalf("%v under %x", led.all, led.hash)
	}
	out.Stop()
	if _, err := out.Reserve(1, 1); err == nil || len(led.all) != 1 {
		t.Fatal("the ledger heard of counters that were not handed out")
	}
}

// All counters fit the window, so a worker that the scheduler leaves behind is
// not refused as too old.
func TestSealConcurrently(t *testing.T) {
	const perRun, workers = 45, scratchSlots + 4
	const runs = replay.Size / perRun / workers
	out, in := testPair(t)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range runs {
				first, err := out.Reserve(perRun, perRun*200)
				if err != nil {
					t.Error(err)
					return
				}
				for c := first; c < first+perRun; c++ {
					if err := openErr(in, sealFrame(out, pattern(200), NextIPv4, c)); err != nil {
						t.Errorf("counter %d: %v", c, err)
					}
				}
			}
		})
	}
	wg.Wait()
	for i := range scratchSlots {
		if out.tr.warm.Load().slots[i].busy.Load() || in.tr.warm.Load().slots[i].busy.Load() {
			t.Errorf("slot %d was not given back", i)
		}
	}
}

// I10: more workers than slots still get a nonce of their own.
func TestAllSlotsBusy(t *testing.T) {
	out, in := testPair(t)
	for i := range scratchSlots {
		out.tr.heat().slots[i].busy.Store(true)
		in.tr.heat().slots[i].busy.Store(true)
	}
	if err := openErr(in, sealFrame(out, pattern(64), NextIPv4, 5)); err != nil {
		t.Fatal(err)
	}
}
