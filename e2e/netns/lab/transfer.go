package lab

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Canary stands in every block of a transfer: seen on an outer link, it is
// cleartext that got out (I4).
const Canary = "meshcrypt-canary-2f6b1d0e9c7a4835"

// Sizes of a transfer.
const (
	blockSize = 64 << 10
	// stride is less than any packet, so that each one holds a canary.
	stride   = 512
	dialTime = 2 * time.Second
)

// Transfer is one TCP connection that carries bytes one way, and what its
// receiver saw.
type Transfer struct {
	// From is the caller as the server sees it.
	From netip.AddrPort

	sink   net.Conn
	source net.Conn
	stop   chan struct{}
	done   chan struct{}

	received atomic.Uint64
	gap      atomic.Int64 // the longest silence so far, ns
	last     atomic.Int64 // of the newest byte, ns since begin
	begin    time.Time
	report   Report // written before done is closed
}

// Report is how a transfer went.
type Report struct {
	Bytes    uint64
	Time     time.Duration
	Stall    time.Duration // the longest time without a new byte
	Sent     string        // SHA-256 at either end
	Received string
	Err      error // a reset, or any other end than a good one
}

// Mbit is the rate.
func (r Report) Mbit() float64 { return float64(r.Bytes) * 8 / 1e6 / r.Time.Seconds() }

// String is the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("%.1f MB in %.1f s, %.0f Mbit/s, longest stall %d ms, hashes equal %v, error %v",
		float64(r.Bytes)/1e6, r.Time.Seconds(), r.Mbit(), r.Stall.Milliseconds(), r.Sent == r.Received, r.Err)
}

// Check is nil when every byte arrived unchanged and nothing was reset.
func (r Report) Check() error {
	switch {
	case r.Err != nil:
		return fmt.Errorf("the connection broke: %w", r.Err)
	case r.Sent != r.Received:
		return fmt.Errorf("hashes differ: sent %s, received %s", r.Sent, r.Received)
	}
	return nil
}

// Plan says what a transfer carries.
type Plan struct {
	Bytes uint64  // 0: until Finish
	Pace  float64 // Mbit/s, 0: as fast as it goes
	Down  bool    // from the server to the caller
}

// Transfer connects from the caller's host to an address of the server's and
// begins to send. It returns when the connection stands.
func (w *World) Transfer(caller, server *Space, address string, plan Plan) *Transfer {
	w.Helper()
	t, err := w.TryTransfer(caller, server, address, plan)
	if err != nil {
		w.Fatalf("%v", err)
	}
	return t
}

// TryTransfer is Transfer where a connection that does not come about is an error.
func (w *World) TryTransfer(caller, server *Space, address string, plan Plan) (*Transfer, error) {
	t, err := w.connect(caller, server, address, plan)
	if err != nil {
		return nil, fmt.Errorf("transfer from %s to %s at %s: %w", caller.Name, server.Name, address, err)
	}
	w.Cleanup(t.abort)
	go t.run(plan)
	return t, nil
}

// Reach says whether a TCP connection can be made.
func (w *World) Reach(caller, server *Space, address string) error {
	t, err := w.connect(caller, server, address, Plan{})
	if err == nil {
		t.abort()
	}
	return err
}

func (w *World) connect(caller, server *Space, address string, plan Plan) (*Transfer, error) {
	var listener net.Listener
	err := server.Do(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	var near net.Conn
	err = caller.Do(func() (err error) {
		near, err = net.DialTimeout("tcp", listener.Addr().String(), dialTime)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(dialTime)); err != nil {
		return nil, err
	}
	far, err := listener.Accept()
	if err != nil {
		near.Close()
		return nil, err
	}
	t := &Transfer{From: far.RemoteAddr().(*net.TCPAddr).AddrPort(), sink: far, source: near, stop: make(chan struct{}), done: make(chan struct{}), begin: time.Now()}
	if plan.Down {
		t.sink, t.source = near, far
	}
	return t, nil
}

func (t *Transfer) run(plan Plan) {
	defer close(t.done)
	defer t.sink.Close()
	defer t.source.Close()
	sent := make(chan error, 1)
	out := sha256.New()
	go func() { sent <- t.send(plan, out) }()
	in := sha256.New()
	err := t.receive(in)
	if err != nil {
		t.source.Close() // nobody reads what it would still write
	}
	err = errors.Join(<-sent, err)
	t.report = Report{
		Bytes: t.received.Load(), Time: time.Since(t.begin), Stall: time.Duration(t.gap.Load()),
		Sent: hex.EncodeToString(out.Sum(nil)), Received: hex.EncodeToString(in.Sum(nil)), Err: err,
	}
}

// send writes blocks that differ, so that a lost or doubled one changes the hash.
func (t *Transfer) send(plan Plan, out hash.Hash) error {
	block := make([]byte, blockSize)
	for i := 0; i+stride <= len(block); i += stride {
		copy(block[i:], Canary)
	}
	for n := uint64(0); plan.Bytes == 0 || n < plan.Bytes; {
		select {
		case <-t.stop:
			return t.source.(*net.TCPConn).CloseWrite()
		default:
		}
		for i := len(Canary); i+8 <= len(block); i += stride {
			binary.BigEndian.PutUint64(block[i:], n+uint64(i))
		}
		part := block
		if plan.Bytes > 0 {
			part = block[:min(uint64(len(block)), plan.Bytes-n)]
		}
		out.Write(part)
		if _, err := t.source.Write(part); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		n += uint64(len(part))
		t.pause(plan.Pace, n)
	}
	return t.source.(*net.TCPConn).CloseWrite()
}

// pause waits until as much time has passed as so many bytes take.
func (t *Transfer) pause(mbit float64, sent uint64) {
	if mbit <= 0 {
		return
	}
	ahead := time.Duration(float64(sent)*8/mbit*1e3) - time.Since(t.begin)
	if ahead > 0 {
		time.Sleep(min(ahead, time.Second))
	}
}

func (t *Transfer) receive(in hash.Hash) error {
	buffer := make([]byte, 4*blockSize)
	for {
		n, err := t.sink.Read(buffer)
		now := int64(time.Since(t.begin))
		if n > 0 {
			if gap := now - t.last.Load(); gap > t.gap.Load() {
				t.gap.Store(gap)
			}
			t.last.Store(now)
			t.received.Add(uint64(n))
			in.Write(buffer[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
	}
}

// Received is how many bytes have arrived.
func (t *Transfer) Received() uint64 { return t.received.Load() }

// Stall is the longest time without a new byte since the last Forget, the
// present silence included.
func (t *Transfer) Stall() time.Duration {
	return max(time.Duration(t.gap.Load()), time.Since(t.begin)-time.Duration(t.last.Load()))
}

// Forget begins the measurement of stalls anew.
func (t *Transfer) Forget() { t.gap.Store(0) }

// Running says that the transfer has not ended.
func (t *Transfer) Running() bool {
	select {
	case <-t.done:
		return false
	default:
		return true
	}
}

// Finish ends a transfer without a size and waits for its last byte.
func (t *Transfer) Finish(ctx context.Context) Report {
	close(t.stop)
	return t.Wait(ctx)
}

// Wait gives the report; a transfer that does not end in time has failed.
func (t *Transfer) Wait(ctx context.Context) Report {
	select {
	case <-t.done:
		return t.report
	case <-ctx.Done():
		t.abort()
		<-t.done
		r := t.report
		r.Err = errors.Join(fmt.Errorf("not done in time: %w", ctx.Err()), r.Err)
		return r
	}
}

// abort breaks the connection at both ends.
func (t *Transfer) abort() {
	t.sink.Close()
	t.source.Close()
}
