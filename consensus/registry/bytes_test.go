package registry

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// mostEnded is how many bytes of the heap an ended session may take, mostActive one that
// goes on.
const mostEnded, mostActive = 500, 1_530

// read is the command as a log entry brings it: it shares nothing with any other.
func (f *fixture) read(c Command) Command {
	f.t.Helper()
	c.ID = CommandID{1} // must gives it another
	raw, err := EncodeCommand(c)
	if err != nil {
		f.t.Fatal(err)
	}
	if c, err = DecodeCommand(raw); err != nil {
		f.t.Fatal(err)
	}
	return c
}

// in logs session i in, with every word said, of one of four devices of an account.
func (f *fixture) in(i, account int) {
	f.t.Helper()
	c := tracked(f.opening(i, fmt.Sprint("c", account), f.slice(0, i%4), f.slice(1, (i+1)%4)), 1+i%4)
	c.Part = f.s.Parts[0].Prefix
	c.Session.Mode, c.Session.Shares = ModeAuto, SharesCapacity
	f.must(f.read(Command{OpenSession: c}))
	for number := range uint8(2) {
		f.must(f.read(Command{MarkSlice: &MarkSlice{Session: session(i), Number: number, Epoch: 1, State: SliceUp}}))
	}
}

// out logs it out, and has all that held it forget it.
func (f *fixture) out(i int) {
	f.t.Helper()
	f.must(f.read(Command{EndSession: &EndSession{Session: session(i), Reason: "client", Bytes: 7}}))
	f.acknowledge(i%4, i)
	f.acknowledge((i+1)%4, i)
}

// living is the bytes of all that lives, but for the SPIs that are remembered: of these
// there are at most three times MaxSpent a node, whatever sessions there were.
func (f *fixture) living() int64 {
	f.s.spent = sorted.New[identity.NodeID, spent](compareNodes)
	return living()
}

func living() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// before is how many sessions it takes until as many commands are remembered as ever will be.
const before = MaxApplied / 3

// bytesOf is what each of so many sessions takes that a step adds.
func (f *fixture) bytesOf(count int, step func(i int)) int64 {
	for i := range before {
		step(i)
	}
	was := f.living()
	for i := range count {
		step(before + i)
	}
	return (f.living() - was) / int64(count)
}

// TestBytesOfAnEndedSession: it stays listed for EndedKept, and there may be many of them.
func TestBytesOfAnEndedSession(t *testing.T) {
	f := crowd(t, 0)
	each := f.bytesOf(1_500, func(i int) { f.in(i, i/4%100); f.out(i) })
	t.Logf("%d bytes for each", each)
	if each > mostEnded {
		t.Errorf("%d bytes for each ended session, at most %d", each, mostEnded)
	}
	runtime.KeepAlive(f)
}

// mostForADevice is how many bytes it may take beside, where its device never came before:
// the address is remembered for it.
const mostForADevice = 320

// TestBytesOfADevice: who logs in once and never again leaves that.
func TestBytesOfADevice(t *testing.T) {
	f := crowd(t, 0)
	each := f.bytesOf(1_500, func(i int) {
		c := tracked(f.opening(i, fmt.Sprint("c", i/4%100), f.slice(0, i%4), f.slice(1, (i+1)%4)), 1+i)
		c.Part = f.s.Parts[0].Prefix
		f.must(f.read(Command{OpenSession: c}))
		f.out(i)
	})
	t.Logf("%d bytes for each", each)
	if each > mostEnded+mostForADevice {
		t.Errorf("%d bytes for each session of a new device, at most %d", each, mostEnded+mostForADevice)
	}
	runtime.KeepAlive(f)
}

// many is a mesh with an account for every four sessions.
func many(t testing.TB, sessions int) *fixture {
	f := crowd(t, 0)
	for i := f.s.Clients.Len(); i <= sessions/4; i++ {
		f.client(fmt.Sprint("c", i))
	}
	return f
}

// TestBytesOfASession: every voter has all of them.
func TestBytesOfASession(t *testing.T) {
	const sessions = 1_500
	f := many(t, before+sessions)
	each := f.bytesOf(sessions, func(i int) { f.in(i, i/4) })
	t.Logf("%d bytes for each", each)
	if each > mostActive {
		t.Errorf("%d bytes for each active session, at most %d", each, mostActive)
	}
	runtime.KeepAlive(f)
}

// TestSessionIsOnePiece: what stays in the heap by small things keeps the memory of all that was
// made beside them. A copy shares nothing with what it was made of, however long its lists are.
func TestSessionIsOnePiece(t *testing.T) {
	f := crowd(t, 0)
	f.in(1, 1)
	ses := f.s.Sessions.Get(session(1))
	var held *Session
	if pieces := testing.AllocsPerRun(10, func() { held = ses.copy() }); pieces != 1 {
		t.Errorf("a session is %v pieces of memory", pieces)
	}
	said := func() string {
		raw, err := json.Marshal(held)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for range 3 {
		before, c := said(), held.copy()
		if !reflect.DeepEqual(c, held) {
			t.Fatalf("copied %s, got %+v", before, c)
		}
		c.Slices[0].Epoch, c.Holders[0].Until, c.Leases[0] = 99, 99, netip.Addr{}
		c.Identity[0]++
		c.Hello[0]++
		if said() != before {
			t.Fatalf("what is done to a copy is done to the session: %s became %s", before, said())
		}
		held = held.copy()
		held.Slices, held.Holders = append(held.Slices, Slice{Number: 9}), append(held.Holders, Holder{Until: 9})
	}
}

// TestSnapshotTakesNoMore: what a snapshot brings back is no larger than what it was made of.
func TestSnapshotTakesNoMore(t *testing.T) {
	const sessions = 2_000
	nothing := living()
	f := many(t, sessions)
	for i := range sessions {
		f.in(i, i/4)
		if i%2 == 0 {
			f.out(i)
		}
	}
	grown := f.living() - nothing
	raw, err := EncodeSnapshot(f.s)
	if err != nil {
		t.Fatal(err)
	}
	before := f.living()
	back, err := DecodeSnapshot(raw)
	if err != nil {
		t.Fatal(err)
	}
	restored := f.living() - before
	t.Logf("%d bytes, restored %d", grown, restored)
	if restored > grown+grown/20 {
		t.Errorf("a state of %d bytes is %d when a snapshot brings it back", grown, restored)
	}
	runtime.KeepAlive(back)
	runtime.KeepAlive(raw)
	runtime.KeepAlive(f)
}
