package main

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestCompare: each thing that grew is named, with its node.
func TestCompare(t *testing.T) {
	was := usage{rss: 100 << 20, descriptors: 100, threads: 40, log: 1 << 20}
	if err := compare([]usage{was}, []usage{{rss: 105<<20 + 100<<10, descriptors: 105, threads: 42, log: mostLog}}, 100); err != nil {
		t.Error(err)
	}
	if err := compare([]usage{{threads: 19}}, []usage{{threads: 20}}, 0); err != nil {
		t.Error(err)
	}
	for what, is := range map[string]usage{
		"RSS":         {rss: 106 << 20, descriptors: 100, threads: 40},
		"descriptors": {rss: 100 << 20, descriptors: 106, threads: 40},
		"threads":     {rss: 100 << 20, descriptors: 100, threads: 43},
		"raft.db":     {log: mostLog + 1},
	} {
		if err := compare([]usage{was, was}, []usage{was, is}, 100); err == nil || !strings.HasPrefix(err.Error(), "n1: "+what) {
			t.Errorf("%s grew: %v", what, err)
		}
	}
}

// TestMiddle: one look in five that is off is not what a churn is judged by, three are;
// it is compared around minute ten.
func TestMiddle(t *testing.T) {
	var looks []look
	for i := range 31 {
		u := usage{rss: int64(100 + i), descriptors: 5, threads: 3, log: int64(i)}
		if i%5 == 2 {
			u.rss, u.descriptors, u.threads = 1_000, 90, 90
		}
		looks = append(looks, look{at: time.Duration(i)*time.Minute + time.Second, logins: 300 * i, nodes: []usage{u, {rss: 7}}})
	}
	want := func(name string, got look, rss int64, logins int) {
		t.Helper()
		if u := got.nodes[0]; u.rss != rss || u.descriptors != 5 || u.threads != 3 || got.logins != logins || got.nodes[1].rss != 7 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	want("around ten", around(looks, settled), 110, 3_000)
	want("the end", middle(looks[26:]), 129, 8_400)
	want("few", around(looks[:11], settled), 109, 2_700)
}

// TestCrews: together they have each client once, and those that send packets none beside.
func TestCrews(t *testing.T) {
	for _, c := range []struct {
		o       options
		want    []int // clients of each crew
		talking int   // crews
	}{
		{options{clients: 10_000}, []int{4000, 4000, 2000}, 0},
		{options{clients: 10_000, talk: true}, []int{200, 4000, 4000, 1800}, 1},
		{options{clients: 20, talk: true}, []int{1, 19}, 1},
		{options{clients: 1, talk: true}, []int{1}, 1},
	} {
		next, talking := 0, 0
		var got []int
		for _, part := range c.o.crews() {
			if got = append(got, part.clients); part.first != next {
				t.Errorf("%+v: a crew begins at %d, not %d", c.o, part.first, next)
			}
			if next += part.clients; part.talk {
				talking++
			}
		}
		if !slices.Equal(got, c.want) || talking != c.talking {
			t.Errorf("%+v: crews of %v, %d of them send packets", c.o, got, talking)
		}
	}
}

// TestCrewSaysThatItStoodStill: for so long that its clients begin anew, and not before.
func TestCrewSaysThatItStoodStill(t *testing.T) {
	last := time.Now()
	for late, want := range map[time.Duration]time.Duration{0: 0, client.RestartAfter: 0, client.RestartAfter + 1: client.RestartAfter + 1} {
		if got := stoodStill(last, last.Add(reportEvery+late)); got != want {
			t.Errorf("%v late: %v", late, got)
		}
	}
}

// TestClockDoesNotStandStill: a client whose process was not run for a while is late, and
// does not take itself for one that stood still.
func TestClockDoesNotStandStill(t *testing.T) {
	var real time.Duration
	c := &clock{read: func() time.Duration { return real }}
	for _, step := range []struct{ passes, want time.Duration }{
		{tick, tick}, {tick, 2 * tick}, // as it is
		{time.Hour, 2*tick + mostPassing}, {tick, 3*tick + mostPassing},
	} {
		if real += step.passes; c.now() != step.want {
			t.Errorf("at %v it is %v, want %v", real, c.last, step.want)
		}
	}
	if tick >= mostPassing || mostPassing+tick >= client.RestartAfter {
		t.Errorf("a tick is %v, of which %v pass at most", tick, mostPassing)
	}
}

// TestGlance: a client is asked only after it has made or lost a connection, or while it is
// not attached; told so, only one that it makes from then on counts.
func TestGlance(t *testing.T) {
	v := &visitor{ready: make(chan struct{})} // one that was asked would panic
	if v.attached(t.Context()) {
		t.Error("attached before it has a session")
	}
	close(v.ready)
	v.dials.Store(1)
	v.look = glance{attached: true, dials: 1}
	if !v.attached(t.Context()) {
		t.Error("not attached any more, and nothing happened")
	}
	if v.anew(); v.attached(t.Context()) {
		t.Error("attached by the connection that it had")
	}
	v.dials.Store(2)
	if v.look.dials = 2; !v.attached(t.Context()) {
		t.Error("its next connection does not count")
	}
	asked := func() (is bool) {
		defer func() { is = recover() != nil }()
		v.attached(t.Context())
		return is
	}
	if v.ends.Add(1); !asked() {
		t.Error("it lost its connection, and is not asked")
	}
}

// TestSource: every client has an address of this host alone.
func TestSource(t *testing.T) {
	seen := make(map[netip.Addr]bool)
	for i := range 70_000 {
		a := source(i)
		if !a.IsLoopback() || seen[a] {
			t.Fatalf("client %d comes from %s", i, a)
		}
		seen[a] = true
	}
}

// TestSocket: a train arrives datagram by datagram, and a socket that is closed says so.
func TestSocket(t *testing.T) {
	var pair [2]*socket
	for i := range pair {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		pair[i] = &socket{conn: conn}
	}
	if err := pair[0].Send([]byte("abcde"), 3, link.Path{Remote: pair[1].LocalAddr()}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	for _, want := range []string{"abc", "de"} {
		got, err := pair[1].Receive(b)
		if err != nil || string(b[:got.Len]) != want || got.Segment != got.Len || got.Path.Remote != pair[0].LocalAddr() {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, s := range pair {
		s.Close()
	}
	if _, err := pair[1].Receive(b); !errors.Is(err, link.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestVerdict: a session may take what it must not exceed, and no more.
func TestVerdict(t *testing.T) {
	empty := usage{rss: 100 << 20, memory: control.MemoryUse{Heap: 10 << 20}}
	for _, c := range []struct {
		each int64 // bytes of RSS
		fine bool
	}{{mustRest, true}, {mustRest + 1, false}} {
		full := usage{rss: 100<<20 + c.each*meant, memory: control.MemoryUse{Heap: 10<<20 + 1024*meant}}
		g := full.over(empty, meant)
		if g.rss != float64(c.each) || g.heap != 1024 {
			t.Errorf("%+v for %d bytes", g, c.each)
		}
		if err := verdict(g.rss, meant); (err == nil) != c.fine {
			t.Errorf("%d bytes: %v", c.each, err)
		}
	}
	if err := verdict(mustRest+1, 300); err == nil || !strings.Contains(err.Error(), "300 clients") {
		t.Errorf("few clients: %v", err)
	}
}

// TestRoom: what this host has too little of is said before anybody logs in.
func TestRoom(t *testing.T) {
	if err := room(10_000, 3, 20_000); err != nil {
		t.Error(err)
	}
	if err := room(10_000, 3, 4_096); err == nil || !strings.Contains(err.Error(), "at most 4315 clients") {
		t.Errorf("%v", err)
	}
}

// TestReport: what a crew writes is what is read, with how much it had heard.
func TestReport(t *testing.T) {
	want := report{attached: 3, dials: 9, talking: 2, words: 1, stall: 7 * time.Millisecond}
	var c crew
	c.take(want.String())
	if got := c.said.Load(); got == nil || *got != want {
		t.Errorf("%+v", got)
	}
	if c.take("4 10"); *c.said.Load() != want {
		t.Error("half a line counts")
	}
	v := &visitor{ready: make(chan struct{})}
	if got := (&fleet{clients: []*visitor{v}, words: 2}).report(t.Context()); got.words != 2 {
		t.Errorf("%+v", got)
	}
}

// TestAccounted: of each slice that a session had and still has its agent has to have told, and of
// one at all.
func TestAccounted(t *testing.T) {
	before := carried{{0, 1}: true, {1, 1}: true}
	for name, c := range map[string]struct {
		now  carried
		told bool
	}{
		"nobody told":                    {carried{{0, 1}: false, {1, 1}: false}, false},
		"one agent did":                  {carried{{0, 1}: false, {1, 1}: true}, false},
		"both did":                       {carried{{0, 1}: true, {1, 1}: true}, true},
		"one is gone, the other told":    {carried{{1, 1}: true}, true},
		"what came in its place did not": {carried{{0, 2}: false, {1, 1}: true}, true},
		"both came anew":                 {carried{{0, 2}: false, {1, 2}: false}, false},
		"one of those told":              {carried{{0, 2}: true, {1, 2}: false}, true},
		"it has none":                    {nil, false},
	} {
		if c.now.accounted(before) != c.told {
			t.Errorf("%s: accounted for %t", name, !c.told)
		}
	}
}
