package tuntest_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

func packet(source byte) []byte {
	b := make([]byte, 40)
	b[0], b[9], b[15] = 0x45, 6, source
	return b
}

func TestInjectIsRead(t *testing.T) {
	d := tuntest.New(1)
	h := tun.VnetHeader{Flags: tun.FlagNeedsCsum, GSOType: tun.GSOTCPv4, GSOSize: 1400, HdrLen: 40}
	if !d.Inject(h, packet(1)) || d.Waiting() != 1 {
		t.Fatal("not injected")
	}
	b := make([]byte, 100)
	n, err := d.Queues()[0].Read(b)
	if err != nil || n != tun.HeaderLen+40 || tun.Decode(b) != h || b[10] != 0x45 {
		t.Errorf("read %d, %v: %x", n, err, b[:n])
	}
	d.Inject(h, packet(1))
	if _, err := d.Queues()[0].Read(b[:20]); !errors.Is(err, tuntest.ErrShort) || d.Dropped() != 1 {
		t.Errorf("short buffer: %v", err)
	}
}

func TestFlowKeepsItsQueue(t *testing.T) {
	d := tuntest.New(4)
	for source := range byte(50) {
		d.Inject(tun.VnetHeader{}, packet(source))
		d.Inject(tun.VnetHeader{}, packet(source))
	}
	seen, used := map[byte]int{}, map[int]bool{}
	b := make([]byte, 100)
	left := d.Waiting()
	for number, q := range d.Queues() {
		for ; left > 0 && d.WaitingAt(number) > 0; left-- {
			if _, err := q.Read(b); err != nil {
				t.Fatal(err)
			}
			source := b[tun.HeaderLen+15]
			if before, ok := seen[source]; ok && before != number {
				t.Errorf("flow %d on queues %d and %d", source, before, number)
			}
			seen[source], used[number] = number, true
		}
	}
	if len(seen) != 50 || len(used) < 2 {
		t.Errorf("%d flows on %d queues", len(seen), len(used))
	}
}

func TestWriteIsTaken(t *testing.T) {
	d := tuntest.New(2)
	header := make([]byte, tun.HeaderLen)
	tun.VnetHeader{GSOSize: 9}.Encode(header)
	if err := d.Queues()[1].Write([][]byte{header, []byte("ab"), []byte("c")}); err != nil {
		t.Fatal(err)
	}
	p, ok := d.Take()
	if !ok || string(p.Data) != "abc" || p.Header.GSOSize != 9 || p.Queue != 1 {
		t.Errorf("took %+v, %v", p, ok)
	}
	if _, ok := d.Take(); ok {
		t.Error("took one packet twice")
	}
	if err := d.Queues()[0].Write([][]byte{header[:9]}); !errors.Is(err, tuntest.ErrShort) {
		t.Errorf("short header: %v", err)
	}
}

// At the limits (I10).
func TestBounds(t *testing.T) {
	d := tuntest.New(1)
	for range tuntest.MaxInjected {
		d.Inject(tun.VnetHeader{}, packet(1))
	}
	if d.Inject(tun.VnetHeader{}, packet(1)) || d.Waiting() != tuntest.MaxInjected {
		t.Error("the queue grew past its limit")
	}
	piece := [][]byte{make([]byte, tun.HeaderLen)}
	for range tuntest.MaxWritten + 1 {
		if err := d.Queues()[0].Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.TakeAll()); n != tuntest.MaxWritten || d.Dropped() != 2 {
		t.Errorf("%d packets kept, %d dropped", n, d.Dropped())
	}
}

func TestCloseWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := tuntest.New(2)
		done := make(chan error, 3)
		for _, q := range d.Queues() {
			go func() {
				_, err := q.Read(make([]byte, 100))
				done <- err
			}()
		}
		go func() {
			if _, ok := d.Wait(); !ok {
				done <- tun.ErrClosed
			}
		}()
		synctest.Wait()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := <-done; !errors.Is(err, tun.ErrClosed) {
				t.Error(err)
			}
		}
		if err := d.Queues()[0].Write([][]byte{make([]byte, 10)}); !errors.Is(err, tun.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
	})
}
