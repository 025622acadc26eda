package trunk

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

// beatSize is how long a beat of a loop.Pipe is; whatever else is written is frames.
const beatSize = 2

// tallied is a connection that counts the records of frames that are written to it.
type tallied struct {
	net.Conn
	records *atomic.Int32
}

func (c tallied) Write(b []byte) (int, error) {
	if len(b) > beatSize {
		c.records.Add(1)
	}
	return c.Conn.Write(b)
}

// talliedTrunks are both ends of a trunk, and how many records the near one has written.
func talliedTrunks(t *testing.T) (both, *atomic.Int32) {
	a, b := net.Pipe()
	records := new(atomic.Int32)
	return trunksOver(t, tallied{a, records}, b), records
}

// quiet is so many streams of which nothing was said lately.
func (p both) quiet(t *testing.T, streams int) (near, far []*Stream) {
	for range streams {
		n, f := p.stream(t, "")
		near, far = append(near, n), append(far, f)
	}
	<-time.After(time.Second)
	return near, far
}

// TestBurstGoesTogether: of the words that many streams say in one moment the first goes at
// once, and the others together when Gather is over. Words far apart wait for nothing.
func TestBurstGoesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, records := talliedTrunks(t)
		near, far := p.quiet(t, 64)
		for range 3 {
			records.Store(0)
			began := time.Now()
			for _, s := range near {
				go s.Write([]byte("word"))
			}
			synctest.Wait()
			if n := records.Load(); n != 1 {
				t.Errorf("%d records at once, want one", n)
			}
			for _, s := range far {
				if got := make([]byte, 4); read(s, got) != nil || string(got) != "word" {
					t.Fatalf("read %q", got)
				}
			}
			if n := records.Load(); n != 2 || time.Since(began) != Gather {
				t.Errorf("%d records after %v, want 2 after %v", n, time.Since(began), Gather)
			}
			<-time.After(Gather)
		}
		began := time.Now()
		near[0].Write([]byte("word"))
		if read(far[0], make([]byte, 4)); time.Since(began) != 0 {
			t.Errorf("a word on a quiet trunk took %v", time.Since(began))
		}
	})
}

// TestOpenGoesWithTheFirstWord, in one record, and without one soon after.
func TestOpenGoesWithTheFirstWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, records := talliedTrunks(t)
		near, err := p.near.Open([]byte("whose"))
		if err != nil {
			t.Fatal(err)
		}
		near.Write([]byte("word"))
		if got := make([]byte, 4); read(<-p.opened, got) != nil || records.Load() != 1 {
			t.Errorf("read %q in %d records", got, records.Load())
		}
		<-time.After(time.Second)
		began := time.Now()
		p.stream(t, "silent")
		if records.Load() != 2 || time.Since(began) != Gather {
			t.Errorf("%d records after %v", records.Load(), time.Since(began))
		}
	})
}

// TestFullRecordGoesAtOnce: who has more than a record waits for no Gather, nor for more
// than what is written before.
func TestFullRecordGoesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, records := talliedTrunks(t)
		near, far := p.quiet(t, 8)
		records.Store(0)
		for _, s := range near {
			go s.Write(make([]byte, MaxBody))
		}
		synctest.Wait()
		come := 0
		for _, s := range far {
			p.far.mu.Lock()
			come += len(s.in)
			p.far.mu.Unlock()
		}
		if n := records.Load(); come < 5*MaxBody || n > 4 {
			t.Errorf("%d bytes have come at once in %d records", come, n)
		}
	})
}

// TestCloseSendsWhatWasWritten, and then the trunk ends.
func TestCloseSendsWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, far := p.stream(t, "")
		if n, err := near.Write([]byte("first")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := near.Write([]byte("second")); n != 6 || err != nil { // waits for others
			t.Fatal(n, err)
		}
		p.near.Close()
		if got, err := io.ReadAll(far); string(got) != "firstsecond" || !errors.Is(err, ErrLost) {
			t.Errorf("read %q, %v", got, err)
		}
		if n, err := near.Write([]byte("third")); n != 0 || !errors.Is(err, ErrLost) {
			t.Errorf("written to one that is over: %d, %v", n, err)
		}
	})
}

// stuck is an end whose other end takes nothing until it is read, though it beats, and a
// stream of which a word is being written. Its tests are in real time: where a record is
// written a beat waits, and not by what virtual time knows.
func stuck(t *testing.T, within time.Duration) (near *Trunk, s *Stream, other net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	near = New(a)
	near.within = within
	go near.Run(nil)
	go func() {
		for {
			if _, err := b.Write(make([]byte, beatSize)); err != nil {
				return
			}
			<-time.After(loop.NodeEvery)
		}
	}()
	t.Cleanup(func() { b.Close(); near.Close() })
	s, err := near.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	go s.Write([]byte("first"))
	for writing := false; !writing; <-time.After(time.Millisecond) {
		near.mu.Lock()
		writing = near.out.writing
		near.mu.Unlock()
	}
	return near, s, b
}

// TestCloseSendsBehindWhoWrites: the record that is being written goes, and what waits for it.
func TestCloseSendsBehindWhoWrites(t *testing.T) {
	for _, waits := range []string{"", "second"} {
		near, s, other := stuck(t, WriteWithin)
		if n, err := s.Write([]byte(waits)); n != len(waits) || err != nil {
			t.Fatal(n, err)
		}
		go near.Close()
		for !near.Over() {
			<-time.After(time.Millisecond)
		}
		<-time.After(CloseWithin / 5) // what cuts it would have
		got, _ := io.ReadAll(other)
		if text := string(got); !strings.Contains(text, "first") || !strings.Contains(text, waits) {
			t.Errorf("read %q", got)
		}
	}
}

// TestWritersWait where the other end takes nothing: no more than a record is kept, and
// deadlines end their waits before the end of the trunk does (I10).
func TestWritersWait(t *testing.T) {
	near, _, _ := stuck(t, time.Second)
	const writers = 10
	ends := make(chan error, writers)
	for i := range writers {
		s, err := near.Open(nil)
		if err != nil {
			t.Fatal(err)
		}
		if i < writers/2 {
			s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		}
		go func() { _, err := s.Write(make([]byte, Window)); ends <- err }()
	}
	for range writers / 2 {
		if err := <-ends; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a writer with a deadline: %v", err)
		}
	}
	near.mu.Lock()
	kept := len(near.out.queue)
	near.mu.Unlock()
	if kept > maxRecord {
		t.Errorf("%d bytes are kept", kept)
	}
	for range writers / 2 {
		if err := <-ends; !errors.Is(err, ErrLost) {
			t.Errorf("a writer without: %v", err)
		}
	}
}

// TestWhoWaitsForCreditHoldsNothingBack: what of a write was taken over goes when Gather is over,
// though the writer waits: the other end gives more only for what it has read.
func TestWhoWaitsForCreditHoldsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, far := p.quiet(t, 1)
		go io.Copy(io.Discard, far[0])
		defer near[0].Close()
		if _, err := near[0].Write(make([]byte, MaxBody)); err != nil { // at once: the next waits
			t.Fatal(err)
		}
		began := time.Now()
		near[0].SetWriteDeadline(began.Add(time.Second))
		if n, err := near[0].Write(make([]byte, Window)); n != Window || err != nil || time.Since(began) > 3*Gather {
			t.Errorf("%d bytes, %v, after %v", n, err, time.Since(began))
		}
	})
}

// TestLateWrite: where the deadline has passed nothing is taken over, with room and credit as
// without, at once; what others said goes all the same.
func TestLateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, far := p.quiet(t, 3)
		if _, err := near[1].Write(make([]byte, Window)); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Second)
		for _, word := range []string{"at once, ", "later"} {
			if _, err := near[2].Write([]byte(word)); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		for i, s := range near[:2] {
			s.SetWriteDeadline(began)
			if n, err := s.Write([]byte("late")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 0 {
				t.Errorf("stream %d: %d bytes, %v, after %v", i, n, err, time.Since(began))
			}
		}
		<-time.After(Gather)
		synctest.Wait()
		word := make([]byte, 20)
		if n, err := far[2].Read(word); string(word[:n]) != "at once, later" || err != nil {
			t.Errorf("the other's words: %q, %v", word[:n], err)
		}
		if far[0].Ready() {
			t.Error("a word that was not taken over has come")
		}
	})
}

// TestDeadlineBetweenTwoPieces: those that were taken over before it go, though nobody says
// another word. In real time, for none passes between two pieces in a bubble.
func TestDeadlineBetweenTwoPieces(t *testing.T) {
	p := trunks(t)
	near, far := p.stream(t, "")
	for began, cut := time.Now(), false; !cut; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("no write was cut in two")
		}
		near.awaits(func() bool { return near.credit > 2*MaxBody }) // all that is due when all was read
		if _, err := near.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		arrives(t, far, 1)
		near.awaits(func() bool { return !near.trunk.out.writing }) // and whoever writes now waits for Gather
		near.SetWriteDeadline(time.Now().Add(rand.N(2 * time.Microsecond)))
		n, err := near.Write(make([]byte, MaxBody+1))
		near.SetWriteDeadline(time.Time{})
		cut = n > 0 && err != nil
		arrives(t, far, n)
	}
}

// arrives waits until so many bytes have come.
func arrives(t *testing.T, far *Stream, n int) {
	t.Helper()
	far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if err := read(far, make([]byte, n)); err != nil {
		t.Fatalf("of %d bytes that were taken over: %v", n, err)
	}
}

// awaits waits until something is so, which the trunk's lock protects.
func (s *Stream) awaits(is func() bool) {
	for so := false; !so; runtime.Gosched() {
		s.trunk.mu.Lock()
		so = is()
		s.trunk.mu.Unlock()
	}
}

// TestNothingGoesBehindWhatWasThrownAway: when too much waits it is thrown away and the trunk ends,
// and no stream says a word more, nor its end, as if all before had been sent.
func TestNothingGoesBehindWhatWasThrownAway(t *testing.T) {
	near, s, _ := stuck(t, WriteWithin)
	near.mu.Lock()
	defer near.mu.Unlock()
	for range MaxQueue/headerSize + 1 { // I10
		near.put(kindCredit, s.number, nil)
	}
	if _, err := s.spend([]byte("more")); !errors.Is(err, ErrLost) {
		t.Errorf("written behind it: %v", err)
	}
	if near.put(kindEnd, s.number, nil); len(near.out.queue) > 0 {
		t.Errorf("%d bytes wait to be written", len(near.out.queue))
	}
}

// TestCloseOfAStuckTrunk gives the other end CloseWithin, and no more.
func TestCloseOfAStuckTrunk(t *testing.T) {
	near, s, _ := stuck(t, WriteWithin)
	s.Write([]byte("second"))
	began := time.Now()
	if near.Close(); time.Since(began) > WriteWithin/2 || time.Since(began) < CloseWithin {
		t.Errorf("it took %v", time.Since(began))
	}
	a, b := net.Pipe()
	defer b.Close()
	other := New(a)
	if _, err := other.Open([]byte("whose")); err != nil { // and that waits for others
		t.Fatal(err)
	}
	began = time.Now()
	if other.Close(); time.Since(began) > WriteWithin/2 || time.Since(began) < CloseWithin {
		t.Errorf("where nothing was being written it took %v", time.Since(began))
	}
}

// TestLostWordIsTold to who reads and who writes next: it was taken over, and not sent.
func TestLostWordIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		near, _ := p.stream(t, "")
		near.Write([]byte("first"))
		if _, err := near.Write([]byte("second")); err != nil {
			t.Fatal(err)
		}
		p.near.pipe.Conn.Close()
		<-time.After(Gather)
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, ErrLost) {
			t.Errorf("who reads: %v", err)
		}
		if _, err := near.Write([]byte("third")); !errors.Is(err, ErrLost) {
			t.Errorf("who writes: %v", err)
		}
	})
}

// TestOneRecordWakesOnce: two frames of a stream that come together are one call.
func TestOneRecordWakesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		far := loop.NewPipe(a, loop.Nodes())
		defer far.Close()
		go io.Copy(io.Discard, far)
		near := New(b)
		calls := 0
		go near.Run(func(s *Stream, _ []byte) { s.Readable(func() { calls++ }) })
		far.Write(frame(kindOpen, 1))
		synctest.Wait()
		far.Write(frames(frame(kindData, 1, 'a'), frame(kindData, 1, 'b'), frame(kindEnd, 1)))
		synctest.Wait()
		if calls != 1 {
			t.Errorf("%d calls, want one", calls)
		}
		near.Close()
	})
}

// TestWordBeforeManyOpens: who reads a stream is told before the reader waits because too many
// are opened.
func TestWordBeforeManyOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		far := loop.NewPipe(a, loop.Nodes())
		defer far.Close()
		go io.Copy(io.Discard, far)
		near := New(b)
		defer near.Close()
		opens := func(from, to uint32) (all []byte) {
			for number := from; number <= to; number++ {
				all = append(all, frame(kindOpen, number)...)
			}
			return all
		}
		came := make(chan time.Time, 1)
		go near.Run(func(s *Stream, _ []byte) {
			if s.number == 1 {
				s.Await()
				came <- time.Now()
			}
		})
		far.Write(opens(1, OpensFree))
		synctest.Wait()
		began := time.Now()
		go far.Write(frames(frame(kindData, 1, 'a'), opens(OpensFree+1, OpensFree+500)))
		if took := (<-came).Sub(began); took != 0 {
			t.Errorf("it was told after %v", took)
		}
		<-time.After(time.Second) // until it reads again, and sees the end
	})
}

// slow is a connection that takes a record each moment.
type slow struct {
	net.Conn
	each time.Duration
}

func (s slow) Write(b []byte) (int, error) {
	<-time.After(s.each)
	return s.Conn.Write(b)
}

// TestNobodyWritesForOthersAlone: on a way that is slower than what is said, who writes what others
// have queued has his own turn, too. In real time, as with stuck.
func TestNobodyWritesForOthersAlone(t *testing.T) {
	a, b := net.Pipe()
	p := trunksOver(t, slow{a, time.Millisecond}, b)
	var words [40]atomic.Int32
	for i := range words {
		near, far := p.stream(t, "")
		go io.Copy(io.Discard, far)
		size := 500
		if i == 0 {
			size = MaxBody
		}
		go func() {
			for {
				if _, err := near.Write(make([]byte, size)); err != nil {
					return
				}
				words[i].Add(1)
			}
		}()
	}
	<-time.After(200 * time.Millisecond) // now all that the way takes is in use
	for i := range words {
		words[i].Store(0)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until) && mute(words[:]) > 0; {
		<-time.After(10 * time.Millisecond)
	}
	if n := mute(words[:]); n > 0 {
		t.Errorf("%d streams said nothing", n)
	}
	p.near.Close()
}

// mute is how many have said nothing.
func mute(words []atomic.Int32) (n int) {
	for i := range words {
		if words[i].Load() == 0 {
			n++
		}
	}
	return n
}

// TestRoomOfABurstIsGivenBack: a crowd that opens streams in one moment makes a long record.
func TestRoomOfABurstIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := trunks(t)
		for range 2 * outRoom / MaxBody {
			if _, err := p.near.Open(make([]byte, MaxBody)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(Gather)
		synctest.Wait()
		p.near.mu.Lock()
		defer p.near.mu.Unlock()
		if o := &p.near.out; len(o.queue) > 0 || cap(o.spare) > outRoom || cap(o.queue) > outRoom {
			t.Errorf("%d bytes wait, there is room for %d and %d", len(o.queue), cap(o.queue), cap(o.spare))
		}
	})
}
