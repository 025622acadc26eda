package port

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// shake is a client's handshake that says whether it can be told to wait, and what it is told.
func shake(p *Port, ca *authority, from int, waits bool) (told error, err error) {
	config := ca.config(ALPNClient)
	config.InsecureSkipVerify = true
	if config.ServerName = "node"; waits {
		config.ServerName = WaitName
	}
	w := &Waiter{Conn: dial(p, source(from))}
	defer w.Close()
	err = tls.Client(w, config).Handshake()
	return w.Told(), err
}

// TestWaitIsTold: while as many are let in as may be, the others wait for their slots. Whose
// turn is not soon hears at once when to come again, if he said that he can, and others are
// closed without a word when their time is over. As soon as one that was at work is in
// the next has his slot.
func TestWaitIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		working := 1
		withdraw := p.Pace(1, func() int { return working })
		const waiting = 400
		for i := range waiting {
			stall(p, ca, source(i), ALPNClient)
		}
		synctest.Wait()
		if n := p.Stats().Dropped[ReasonWait]; n > 0 {
			t.Fatalf("%d were told that cannot be", n)
		}
		began := time.Now()
		told, err := shake(p, ca, waiting, true)
		if wait := (*Wait)(nil); !errors.As(told, &wait) || err == nil || wait.In <= 0 || wait.In > MaxWait || time.Since(began) > 0 {
			t.Errorf("told %v, %v after %v", told, err, time.Since(began))
		}
		if told, err := shake(p, ca, waiting+1, false); told != nil || !errors.Is(err, io.EOF) {
			t.Errorf("one that cannot be told hears %v, %v", told, err)
		}
		synctest.Wait()
		if _, _, under := p.Siege(); !under {
			t.Error("nobody was turned away")
		}
		p.mu.Lock()
		working = 0
		p.mu.Unlock()
		if told, err := shake(p, ca, waiting+2, true); told != nil || err != nil {
			t.Errorf("when one is in: %v, %v", told, err)
		}
		withdraw()
	})
}

// TestWhoseTurnDidNotCome in time hears when to come again, too.
func TestWhoseTurnDidNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		p.Handle(ALPNClient, ca.config(ALPNClient), echo)
		first := p.Pace(0, func() int { return 0 })
		second := p.Pace(0, func() int { return 0 })
		first() // is another's by now
		began := time.Now()
		told, err := shake(p, ca, 1, true)
		if took := time.Since(began); told == nil || err == nil || took != WaitTimeout {
			t.Errorf("told %v, %v after %v", told, err, took)
		}
		synctest.Wait()
		if _, _, under := p.Siege(); under || p.Stats().Dropped[ReasonWait] != 1 {
			t.Error("an appointment is not counted as one")
		}
		second()
		if _, err := shake(p, ca, 2, true); err != nil {
			t.Error(err)
		}
	})
}

// TestWaitRecord: what is said is what is read, and never more than MaxWait.
func TestWaitRecord(t *testing.T) {
	for in, want := range map[time.Duration]time.Duration{
		-1: 0, waitUnit: waitUnit, 7*time.Second + 1: 7 * time.Second, MaxWait: MaxWait, time.Hour: MaxWait,
	} {
		if got, err := parseWait((&Wait{in}).marshal()); err != nil || got.In != want {
			t.Errorf("%v is read as %v, %v", in, got, err)
		}
	}
	if got, err := parseWait([]byte{waitType, 3, 3, 0, 2, 0xff, 0xff}); err != nil || got.In != MaxWait {
		t.Errorf("a forged one is read as %v, %v", got, err)
	}
}

// feed is a connection that brings some bytes, one at a time or together.
type feed struct {
	net.Conn
	r io.Reader
}

func (f feed) Read(b []byte) (int, error) { return f.r.Read(b) }

// FuzzWait: whatever comes first, nothing is made of it but a wait that is bounded, and of
// what is no wait not a byte is lost.
func FuzzWait(f *testing.F) {
	f.Add((&Wait{time.Second}).marshal(), false)
	f.Add([]byte{22, 3, 3, 0, 2, 1, 0, 9}, true)
	f.Add([]byte{waitType}, true)
	f.Fuzz(func(t *testing.T, said []byte, single bool) {
		var r io.Reader = bytes.NewReader(said)
		if single {
			r = &oneByOne{said}
		}
		w := &Waiter{Conn: feed{r: r}}
		got, err := io.ReadAll(w)
		switch {
		case len(said) == 0 || said[0] != waitType:
			if !bytes.Equal(got, said) || err != nil || w.Told() != nil {
				t.Errorf("%x came as %x, %v", said, got, err)
			}
		case err == nil || len(got) > 0:
			t.Errorf("%x came as %x, %v", said, got, err)
		}
		if wait, err := parseWait(said); err == nil && (wait.In < 0 || wait.In > MaxWait) {
			t.Errorf("%x says %v", said, wait.In)
		}
		if wait := (*Wait)(nil); errors.As(w.Told(), &wait) && (wait.In < 0 || wait.In > MaxWait) {
			t.Errorf("%x: told %v", said, wait.In)
		}
	})
}

type oneByOne struct{ rest []byte }

func (o *oneByOne) Read(b []byte) (int, error) {
	if len(o.rest) == 0 {
		return 0, io.EOF
	}
	b[0], o.rest = o.rest[0], o.rest[1:]
	return 1, nil
}

// TestWordToWait: nothing else is taken for it, and what comes later in a connection, which
// may begin with any octet, is TLS's.
func TestWordToWait(t *testing.T) {
	word := (&Wait{time.Second}).marshal()
	for i := range word[:5] {
		other := bytes.Clone(word)
		other[i]++
		if wait, err := parseWait(other); err == nil {
			t.Errorf("octet %d is another one: %v", i, wait)
		}
	}
	near, far := net.Pipe()
	w := &Waiter{Conn: near}
	go func() {
		_, _ = far.Write([]byte{22})
		_, _ = far.Write(word)
	}()
	b := make([]byte, 16)
	for _, first := range []byte{22, waitType} {
		if n, err := w.Read(b); n == 0 || err != nil || b[0] != first || w.Told() != nil {
			t.Errorf("read %x, %v, told %v", b[:n], err, w.Told())
		}
	}
}

// TestWordToWaitWaitsForNobody: a stranger who reads nothing keeps nothing of this host.
func TestWordToWaitWaitsForNobody(t *testing.T) { // I10
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		began := time.Now()
		if sayWait(near, time.Second); time.Since(began) != waitWithin {
			t.Errorf("after %v", time.Since(began))
		}
	})
}
