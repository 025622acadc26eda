package gateway

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/framed"
)

// attach is what the packet engine does for a stream of this rig.
func (r *rig) attach(s link.Socket) error {
	go func() {
		b := make([]byte, link.MaxTrain)
		for {
			t, err := s.Receive(b)
			if err != nil {
				return
			}
			r.g.Forward(b, t, s)
		}
	}()
	return nil
}

// stream is a client at the far end of one.
func (r *rig) stream(from netip.AddrPort) *framed.Socket {
	near, far := net.Pipe()
	go r.g.ServeStream(near, from)
	s := framed.New(far, nodeAt(9))
	r.t.Cleanup(func() { s.Close() })
	return s
}

func over(s *framed.Socket) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// streamRig is a rig that takes streams.
func streamRig(t *testing.T, c Config) *rig {
	var r *rig
	c.Attach = func(s link.Socket) error { return r.attach(s) }
	r = newRig(t, c)
	return r
}

// listen reads what comes to a client, so that it notices the end too.
func listen(s *framed.Socket) <-chan link.Train {
	trains := make(chan link.Train, 16)
	go func() {
		defer close(trains)
		for {
			t, err := s.Receive(make([]byte, link.MaxTrain))
			if err != nil {
				return
			}
			trains <- t
		}
	}()
	return trains
}

// TestStreamHasItsOwnRow: a client of the same address and port by UDP and by
// stream is answered by each on its own.
func TestStreamHasItsOwnRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{})
		s := r.stream(client(1))
		trains := listen(s)
		r.send(client(1), packet(1, 100), 100)
		if err := s.Send(bytes.Repeat(packet(1, 100), 3), 100, link.Path{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if st := r.g.Stats(); st.Rows != 2 || st.Forwarded != 4 || st.Streams != 1 {
			t.Fatalf("%+v", st)
		}
		r.answer(1, nodeAt(1), packet(7, 200))
		if got := <-trains; got.Len != 200 {
			t.Errorf("the stream got %+v", got)
		}
		if n := len(r.outer.sent); n != 0 {
			t.Errorf("%d trains of the stream's went out by UDP", n)
		}
		r.answer(0, nodeAt(1), packet(7, 90))
		if n := len(r.outer.sent); n != 1 {
			t.Errorf("%d trains went out by UDP, want 1", n)
		}
	})
}

// answered has a node answer each stream, which makes it a client's.
func (r *rig) answered(all ...*framed.Socket) {
	for i, s := range all {
		if err := s.Send(packet(1, 100), 100, link.Path{}); err != nil {
			r.t.Fatal(err)
		}
		synctest.Wait()
		r.answer(i, nodeAt(1), packet(7, 200))
		synctest.Wait()
	}
}

// TestStreamsAreRationed: in all, of one prefix, and by the prefix's bucket (I10).
func TestStreamsAreRationed(t *testing.T) {
	for name, c := range map[string]struct {
		most   int
		client func(int) netip.AddrPort
		want   int
	}{
		"in all":        {5, func(n int) netip.AddrPort { return client(200 * n) }, 5},
		"of one prefix": {0, func(n int) netip.AddrPort { return client(n) }, MaxStreamsPerPrefix},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := streamRig(t, Config{MaxStreams: c.most})
				var all []*framed.Socket
				for n := range c.want {
					s := r.stream(c.client(n))
					listen(s)
					all = append(all, s)
					synctest.Wait()
				}
				r.answered(all...)
				for n := range 3 {
					listen(r.stream(c.client(c.want + n)))
					synctest.Wait()
				}
				if s := r.g.Stats(); s.Streams != c.want || s.StreamsRefused != 3 {
					t.Errorf("%d streams, %d refused", s.Streams, s.StreamsRefused)
				}
				all[0].Close()
				synctest.Wait()
				r.stream(c.client(0))
				synctest.Wait()
				if s := r.g.Stats(); s.Streams != c.want || s.StreamsRefused != 3 {
					t.Errorf("with room again: %d streams, %d refused", s.Streams, s.StreamsRefused)
				}
			})
		})
	}
}

// TestStrangersMakeRoom: streams that no node has answered keep nobody out: of one
// prefix its own oldest goes, where all are full one of the prefix that has most.
func TestStrangersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{MaxStreams: 4})
		open := func(from netip.AddrPort) *framed.Socket {
			s := r.stream(from)
			listen(s)
			synctest.Wait()
			<-time.After(time.Millisecond)
			return s
		}
		known := open(client(1))
		r.answered(known)
		crowd := []*framed.Socket{open(client(300)), open(client(301)), open(client(302))}
		late := open(client(600))
		if !over(crowd[0]) || over(crowd[1]) || over(known) || over(late) {
			t.Errorf("full: the crowd's oldest over %v, next %v, the answered %v, the newest %v", over(crowd[0]), over(crowd[1]), over(known), over(late))
		}
		r.answered(late)
		if s := r.g.Stats(); s.Streams != 4 || s.StreamsRefused != 1 {
			t.Errorf("%d streams, %d refused", s.Streams, s.StreamsRefused)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{})
		var all []*framed.Socket
		for n := range MaxStreamsPerPrefix + 1 {
			all = append(all, r.stream(client(n)))
			listen(all[n])
			synctest.Wait()
			<-time.After(time.Millisecond)
		}
		if s := r.g.Stats(); !over(all[0]) || over(all[1]) || over(all[MaxStreamsPerPrefix]) || s.Streams != MaxStreamsPerPrefix {
			t.Errorf("of one prefix: oldest over %v, next %v, newest %v, %d streams", over(all[0]), over(all[1]), over(all[MaxStreamsPerPrefix]), s.Streams)
		}
	})
}

// TestOnlyAnswersKeepAStream: what its client sends does not, once no node answers.
func TestOnlyAnswersKeepAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{})
		s := r.stream(client(1))
		listen(s)
		r.answered(s)
		for range 9 {
			<-time.After(IdleConfirmed / 9)
			if err := s.Send(packet(1, 100), 100, link.Path{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if r.g.Tick(); over(s) {
			t.Fatal("over too early")
		}
		<-time.After(time.Second)
		r.g.Tick()
		if synctest.Wait(); !over(s) {
			t.Error("a stream lives by its client's own datagrams")
		}
	})
}

// TestStreamsTakeTokens: who opens and closes runs dry like who makes rows.
func TestStreamsTakeTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{})
		for n := range PrefixBurst + 2 {
			s := r.stream(client(n % 100))
			synctest.Wait()
			s.Close()
			synctest.Wait()
		}
		if s := r.g.Stats(); s.StreamsOpened != PrefixBurst || s.StreamsRefused != 2 {
			t.Errorf("%d opened, %d refused", s.StreamsOpened, s.StreamsRefused)
		}
	})
}

// TestIdleStreamsGo: a stranger's soon, a client's when it is silent for longer
// than clients are; and its rows with it.
func TestIdleStreamsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{})
		stranger, known := r.stream(client(1)), r.stream(client(2))
		listen(stranger)
		listen(known)
		for _, s := range []*framed.Socket{stranger, known} {
			if err := s.Send(packet(1, 100), 100, link.Path{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		r.answer(1, nodeAt(1), packet(7, 200))
		for _, step := range []struct {
			after                   time.Duration
			strangerOver, knownOver bool
		}{{IdleUnconfirmed, false, false}, {time.Second, true, false}, {IdleConfirmed, true, true}} {
			<-time.After(step.after)
			r.g.Tick()
			synctest.Wait()
			if over(stranger) != step.strangerOver || over(known) != step.knownOver {
				t.Errorf("after %v more: stranger over %v, client over %v", step.after, over(stranger), over(known))
			}
		}
		r.g.Tick()
		if s := r.g.Stats(); s.Streams != 0 || s.Rows != 0 {
			t.Errorf("%d streams and %d rows are left", s.Streams, s.Rows)
		}
	})
}

func TestStreamAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := streamRig(t, Config{})
		r.g.Close()
		s := r.stream(client(1))
		listen(s)
		synctest.Wait()
		if !over(s) {
			t.Error("a closed gateway takes a stream")
		}
	})
}
