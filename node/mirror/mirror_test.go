package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/conntrack"
	"github.com/meshcrypt/meshcrypt/node/loop"
)

// table is a kernel's table of flows, and what it tells of changes.
type table struct {
	mu    sync.Mutex // protects flows
	flows map[conntrack.Key]conntrack.Flow
	tells chan conntrack.Event
	full  bool
}

func newTable(flows ...conntrack.Flow) *table {
	t := &table{flows: map[conntrack.Key]conntrack.Flow{}, tells: make(chan conntrack.Event)}
	for _, f := range flows {
		t.flows[f.Key] = f
	}
	return t
}

func (t *table) Flows(prefixes []netip.Prefix) (list []conntrack.Flow, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.flows {
		for _, p := range prefixes {
			if p.Contains(f.Source.Addr()) {
				list = append(list, f)
			}
		}
	}
	return list, nil
}

func (t *table) Put(f conntrack.Flow) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.full {
		return errors.New("the table is full")
	}
	if old, known := t.flows[f.Key]; known {
		f.NAT = old.NAT // as the kernel does: a translation is for life
	}
	t.flows[f.Key] = f
	return nil
}

func (t *table) Delete(key conntrack.Key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.flows, key)
	return nil
}

func (t *table) Close() error { return nil }

func (t *table) Next(until time.Time, tell func(conntrack.Event)) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case e, ok := <-t.tells:
		if !ok {
			return io.EOF
		}
		tell(e)
	case <-timer.C:
	}
	return nil
}

// translations are the flows as they matter: what is hidden as what.
func (t *table) translations() map[conntrack.Key]netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[conntrack.Key]netip.AddrPort)
	for key, f := range t.flows {
		all[key] = f.NAT
	}
	return all
}

func part() Part {
	return Part{Prefix: netip.MustParsePrefix("10.77.0.0/18"), Inside: netip.MustParseAddr("10.20.0.201")}
}

// flow is the client's number n to one server.
func flow(n int) conntrack.Flow {
	lease := netip.AddrFrom4([4]byte{10, 77, byte(n >> 16), byte(n >> 8)})
	return conntrack.Flow{
		Key: conntrack.Key{Proto: 17, Source: netip.AddrPortFrom(lease, 1000+uint16(n&0xff)), Destination: netip.MustParseAddrPort("10.20.0.100:53")},
		NAT: netip.AddrPortFrom(part().Inside, uint16(n)), Timeout: 30,
	}
}

// scene is an egress and its second, over a pipe, in time of their own.
type scene struct {
	*testing.T
	egress, second *table
	copier         *Copier
	dials          int
	beats          bool // the egress is told that the second knows beats
	refuse         atomic.Bool
	cut            atomic.Bool // nothing arrives at either end any more
	served         []error
}

// play has a scene between two that know beats, and where one does not.
func play(t *testing.T, egress, second func() *table, act func(*scene)) {
	for name, beats := range map[string]bool{"beats": true, "an older build": false} {
		t.Run(name, func(t *testing.T) { playOnce(t, beats, egress(), second(), act) })
	}
}

// of is a table with those flows, a new one each time.
func of(flows ...conntrack.Flow) func() *table { return func() *table { return newTable(flows...) } }

// wire is an end of a connection that may be cut.
type wire struct {
	net.Conn
	cut *atomic.Bool
}

func (w wire) Write(b []byte) (int, error) {
	if w.cut.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func playOnce(t *testing.T, beats bool, egress, second *table, act func(*scene)) {
	synctest.Test(t, func(t *testing.T) {
		s := &scene{T: t, egress: egress, second: second, beats: beats}
		ctx, cancel := context.WithCancel(t.Context())
		egress.tells = make(chan conntrack.Event)
		source := sourceOf(egress)
		s.copier = NewCopier(Config{
			Open: func() (Kernel, error) { return second, nil }, Now: time.Now, Log: slog.New(slog.DiscardHandler),
			Dial: func(context.Context, identity.NodeID) (net.Conn, error) {
				a, b := net.Pipe()
				near, far := wire{a, &s.cut}, wire{b, &s.cut}
				s.dials++
				go func() {
					defer far.Close()
					s.served = append(s.served, source.Serve(ctx, far, s.beats, func([]netip.Prefix) bool { return !s.refuse.Load() }))
				}()
				return near, nil
			},
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.copier.Run(ctx)
		}()
		s.copier.Follow(map[identity.NodeID][]Part{{1}: {part()}})
		s.settle()
		act(s)
		cancel()
		<-done
		s.settle()
	})
}

// settle lets what is under way arrive.
func (s *scene) settle() {
	<-time.After(AliveEvery + AliveEvery/10)
	synctest.Wait()
}

// same checks that the second could go on for the egress.
func (s *scene) same(when string) {
	s.Helper()
	if want, got := s.egress.translations(), s.second.translations(); !maps.Equal(want, got) {
		s.Errorf("%s: the second has %v, the egress %v", when, got, want)
	}
	if n := s.copier.Flows(); n != len(s.second.flows) {
		s.Errorf("%s: %d copied flows, counted %d", when, len(s.second.flows), n)
	}
}

// change does to the egress's table what the kernel then tells.
func (s *scene) change(f conntrack.Flow, gone bool) {
	if gone {
		_ = s.egress.Delete(f.Key)
	} else {
		_ = s.egress.Put(f)
	}
	s.egress.tells <- conntrack.Event{Flow: f, Gone: gone}
}

// TestSecondHasTheFlows: all at first, in place of what it had; then every
// change; and all again after some were lost.
func TestSecondHasTheFlows(t *testing.T) {
	moved := flow(2)
	moved.NAT = netip.AddrPortFrom(part().Inside, 9999)
	play(t, of(flow(1), flow(2)), of(moved, flow(3)), func(s *scene) {
		s.same("at first")
		s.change(flow(4), false)
		s.change(flow(1), true)
		s.settle()
		s.same("after changes")
		if f := s.second.flows[flow(4).Key]; f.Timeout != uint32(Keep.Seconds()) {
			s.Errorf("kept for %d s only", f.Timeout)
		}
		_ = s.egress.Delete(flow(4).Key) // nobody tells
		_ = s.egress.Put(flow(5))
		s.egress.tells <- conntrack.Event{Lost: true}
		s.settle()
		s.settle()
		s.same("after a loss")
		_ = s.egress.Delete(flow(5).Key)
		<-time.After(ResyncEvery)
		s.settle()
		s.same("after the time of a list")
		if s.dials != 1 {
			s.Errorf("%d streams", s.dials)
		}
	})
}

// TestStreamBreaks: what the second has stays, and the next stream puts it right.
func TestStreamBreaks(t *testing.T) {
	play(t, of(flow(1), flow(2)), of(), func(s *scene) {
		close(s.egress.tells)
		s.egress.tells = make(chan conntrack.Event)
		<-time.After(RedialAfter / 2)
		if len(s.second.translations()) != 2 {
			s.Error("what was copied went with the stream")
		}
		_ = s.egress.Delete(flow(1).Key)
		s.settle()
		s.same("over the next stream")
	})
}

// TestCutStream: an egress that is gone without a word is dialled again, and a second
// that is loses its stream, each as soon as nodes take silence for the end.
func TestCutStream(t *testing.T) {
	playOnce(t, true, newTable(flow(1)), newTable(), func(s *scene) {
		<-time.After(time.Hour)
		if s.dials != 1 {
			s.Fatalf("%d streams though both beat", s.dials)
		}
		s.cut.Store(true)
		<-time.After(loop.NodeSilence + AliveEvery + RedialAfter)
		synctest.Wait()
		if s.dials != 2 || len(s.served) != 1 {
			s.Errorf("%d streams, %d ended", s.dials, len(s.served))
		}
		s.cut.Store(false)
	})
}

// TestNoLongerSecond: the egress ends the stream, and a copier that is to
// follow nobody asks no more and deletes nothing.
func TestNoLongerSecond(t *testing.T) {
	play(t, of(flow(1)), of(), func(s *scene) {
		s.refuse.Store(true)
		s.settle()
		if len(s.served) == 0 || !errors.Is(s.served[0], ErrNotSecond) {
			s.Errorf("served until %v", s.served)
		}
		s.copier.Follow(nil)
		s.settle()
		dials := s.dials
		<-time.After(10 * RedialAfter)
		if s.dials != dials || len(s.second.translations()) != 1 || s.copier.Flows() != 0 {
			s.Errorf("%d more streams, %d flows left, %d counted", s.dials-dials, len(s.second.translations()), s.copier.Flows())
		}
	})
}

// TestStrangerHearsNothing: who is not the second is told no flow, not even once.
func TestStrangerHearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		heard := make(chan []byte, 1)
		go func() {
			_, _ = near.Write(wantFrame())
			b, _ := io.ReadAll(near)
			heard <- b
		}()
		err := sourceOf(newTable(flow(1))).Serve(t.Context(), far, false, func([]netip.Prefix) bool { return false })
		far.Close()
		if b := <-heard; !errors.Is(err, ErrNotSecond) || len(b) > 0 {
			t.Errorf("heard %x, %v", b, err)
		}
	})
}

// TestSecondThatDoesNotRead loses its stream, also in the middle of a list.
func TestSecondThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flows []conntrack.Flow
		for n := range 1000 {
			flows = append(flows, flow(n))
		}
		near, far := net.Pipe()
		defer near.Close()
		go func() { _, _ = near.Write(wantFrame()) }()
		began := time.Now()
		err := sourceOf(newTable(flows...)).Serve(t.Context(), far, false, func([]netip.Prefix) bool { return true })
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != SilentAfter {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func wantFrame() []byte {
	return appendFrame(nil, kindWant, appendPrefixes(nil, []netip.Prefix{part().Prefix}))
}

func sourceOf(egress *table) Source {
	return Source{
		Open: func() (Kernel, error) { return egress, nil }, Now: time.Now,
		Listen: func([]netip.Prefix) (Events, error) { return egress, nil },
	}
}

func newReplica(k Kernel) *replica {
	return &replica{
		kernel: k, parts: []Part{part()}, known: map[conntrack.Key]netip.AddrPort{}, flows: new(atomic.Int64),
		log: slog.New(slog.DiscardHandler),
	}
}

// TestForeignFlowsArePassedOver: an egress gets nothing into its second's kernel
// but flows from its parts, hidden behind their address.
func TestForeignFlowsArePassedOver(t *testing.T) {
	for name, spoil := range map[string]func(*conntrack.Flow){
		"another source":  func(f *conntrack.Flow) { f.Source = netip.MustParseAddrPort("10.1.0.1:1000") },
		"another address": func(f *conntrack.Flow) { f.NAT = netip.MustParseAddrPort("10.20.0.1:1000") },
	} {
		k := newTable()
		f := flow(1)
		spoil(&f)
		for _, kind := range []kind{kindFlow, kindGone} {
			if err := newReplica(k).take(kind, f.Append(nil)); err != nil || len(k.flows) != 0 {
				t.Errorf("%s: %v, %d flows", name, err, len(k.flows))
			}
		}
	}
	r := newReplica(newTable())
	for name, frame := range map[string]struct {
		kind kind
		body []byte
		want error
	}{
		"an end alone":   {kindEnd, nil, errList},
		"half a flow":    {kindFlow, flow(1).Append(nil)[:9], conntrack.ErrFlow},
		"a flow and one": {kindGone, append(flow(1).Append(nil), 0), ErrFrame},
		"a newer kind":   {99, []byte("anything"), nil},
	} {
		if err := r.take(frame.kind, frame.body); !errors.Is(err, frame.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMaxFlows: beyond it new flows are passed over, old ones still change.
func TestMaxFlows(t *testing.T) {
	k := newTable()
	r := newReplica(k)
	for n := range MaxFlows + 1 {
		if err := r.put(flow(n)); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.flows) != MaxFlows || r.flows.Load() != MaxFlows {
		t.Errorf("%d flows, %d counted, want %d", len(k.flows), r.flows.Load(), MaxFlows)
	}
	first := flow(0)
	first.Timeout = 1 << 20
	if err := r.put(first); err != nil || k.flows[first.Key].Timeout != 1<<20 {
		t.Errorf("a known flow at the limit: %v", err)
	}
	k.full = true
	if err := r.forget(first.Key); err != nil {
		t.Fatal(err)
	}
	if err := r.put(first); err != nil || r.flows.Load() != MaxFlows-1 {
		t.Errorf("the kernel's table is full: %v, %d counted", err, r.flows.Load())
	}
}

func TestFramesAreBounded(t *testing.T) {
	var prefixes []netip.Prefix
	a := netip.MustParseAddr("fd00::")
	for range MaxPrefixes {
		prefixes = append(prefixes, netip.PrefixFrom(a, 128))
		a = a.Next()
	}
	frame := appendFrame(nil, kindWant, appendPrefixes(nil, prefixes))
	k, body, err := readFrame(bytes.NewReader(frame), make([]byte, maxFrame))
	if err != nil || k != kindWant {
		t.Fatalf("the largest frame: %v, %v", k, err)
	}
	if got, err := parsePrefixes(body); err != nil || len(got) != MaxPrefixes {
		t.Errorf("%d prefixes, %v", len(got), err)
	}
	more := appendPrefixes(nil, append(prefixes, netip.MustParsePrefix("10.0.0.0/8")))
	if _, err := parsePrefixes(more); !errors.Is(err, ErrFrame) {
		t.Errorf("one prefix more: %v", err)
	}
	for name, frame := range map[string][]byte{
		"nothing":  {0, 0},
		"too long": {0xff, 0xff, byte(kindWant)},
	} {
		if _, _, err := readFrame(bytes.NewReader(frame), make([]byte, maxFrame)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, b := range [][]byte{{4}, {4, 24, 10, 0, 0}, {5, 8, 1, 2, 3, 4, 5}, {4, 33, 10, 0, 0, 0}, {4, 8, 10, 1, 0, 0}} {
		if _, err := parsePrefixes(b); !errors.Is(err, ErrFrame) {
			t.Errorf("prefixes %v: %v", b, err)
		}
	}
}

// FuzzFrames: whatever an egress or a second sends, the other end survives it.
func FuzzFrames(f *testing.F) {
	f.Add(wantFrame())
	f.Add(appendFrame(appendFrame(appendFrame(nil, kindBegin, nil), kindFlow, flow(1).Append(nil)), kindEnd, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, r := bytes.NewReader(b), newReplica(newTable(flow(7)))
		for {
			k, body, err := readFrame(in, make([]byte, maxFrame))
			if err != nil {
				return
			}
			if prefixes, err := parsePrefixes(body); err == nil && !bytes.Equal(appendPrefixes(nil, prefixes), body) {
				t.Errorf("%x are %v", body, prefixes)
			}
			if r.take(k, body) != nil {
				return
			}
		}
	})
}
