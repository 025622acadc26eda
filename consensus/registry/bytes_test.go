package registry

import (
	"runtime"
	"testing"
)

// inAndOut logs session i in and out, and has all that held it forget it.
func (f *fixture) inAndOut(i int) {
	f.crowd(i)
	f.must(mark(i, 1, SliceUp))
	f.end(i)
	f.acknowledge(i%4, i)
	f.acknowledge((i+1)%4, i)
}

func living() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestBytesOfAnEndedSession: it stays listed for EndedKept, and there may be many of them.
// What is remembered of the last commands, sessions and SPIs has its size before.
func TestBytesOfAnEndedSession(t *testing.T) {
	const before, ended, most = 9_000, 4_000, 1_152
	f := crowd(t, 0)
	for i := range before {
		f.inAndOut(i)
	}
	was := living()
	for i := range ended {
		f.inAndOut(before + i)
	}
	each := (living() - was) / ended
	t.Logf("%d bytes for each", each)
	if each > most {
		t.Errorf("%d bytes for each ended session, at most %d", each, most)
	}
	runtime.KeepAlive(f)
}
