package esp

import (
	"bytes"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/replay"
)

// openErr opens a copy of frame.
func openErr(in *Inbound, frame []byte) error {
	_, _, _, err := in.Open(bytes.Clone(frame))
	return err
}

// I5, I11: one bit anywhere makes a frame worthless, and moves nothing.
func TestEveryBitFlipped(t *testing.T) {
	out, in := testPair(t)
	frame := sealFrame(out, pattern(61), NextIPv4, 9)
	for i := range frame {
		for bit := range 8 {
			bad := bytes.Clone(frame)
			bad[i] ^= 1 << bit
			want := ErrAuth
			if i < spiSize {
				want = ErrSPI
			}
			if _, _, advanced, err := in.Open(bad); err != want || advanced {
				t.Fatalf("byte %d bit %d: %v, want %v", i, bit, err, want)
			}
		}
	}
	if in.window.Top() != 0 || in.bytes != 0 {
		t.Fatal("a forged frame moved the window")
	}
	if err := openErr(in, frame); err != nil {
		t.Fatalf("the frame itself: %v", err)
	}
}

func TestEveryTruncation(t *testing.T) {
	out, in := testPair(t)
	for _, n := range []int{0, 1, 28, 100} {
		frame := sealFrame(out, pattern(n), NextIPv4, uint64(n)+1)
		for size := range len(frame) {
			want := ErrAuth
			if size < MinFrame {
				want = ErrShort
			}
			if err := openErr(in, frame[:size]); err != want {
				t.Fatalf("%d of %d bytes: %v, want %v", size, len(frame), err, want)
			}
		}
		if err := openErr(in, append(bytes.Clone(frame), 0)); err != ErrAuth {
			t.Fatalf("a byte more: %v", err)
		}
	}
	for size := range 65 {
		if err := openErr(in, make([]byte, size)); err != ErrShort && err != ErrSPI {
			t.Fatalf("%d zero bytes: %v", size, err)
		}
	}
}

func TestSequenceAndIVMustAgree(t *testing.T) {
	out, in := testPair(t)
	seal := func(sequence uint32, iv uint64) []byte {
		frame := make([]byte, SealedLen(20))
		putHeader(frame, testSPI, sequence, iv)
		putTrailer(frame[PayloadOffset:len(frame)-icvSize], 20, NextIPv4)
		out.tr.seal(frame) // authentic: sealed by the key's holder
		return frame
	}
	for _, c := range []struct {
		name     string
		sequence uint32
		iv       uint64
		want     error
	}{
		{"disagree", 5, 6, ErrAuth},
		{"swapped halves", 0, 5 << 32, ErrAuth},
		{"past 32 bits", 5, 1<<32 | 5, ErrAuth},
		{"past the hard limit", MaxHardPackets + 1, MaxHardPackets + 1, ErrAuth},
		{"last counter of all", math.MaxUint32, math.MaxUint64, ErrAuth},
		{"zero", 0, 0, ErrReplay},
		{"agree", 5, 5, nil},
		{"at the hard limit", MaxHardPackets, MaxHardPackets, nil},
	} {
		if err := openErr(in, seal(c.sequence, c.iv)); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// The refusal is cheap: a frame that disagrees is not even decrypted.
func TestDisagreementIsNotDecrypted(t *testing.T) {
	out, in := testPair(t)
	frame := sealFrame(out, pattern(40), NextIPv4, 3)
	frame[7] ^= 1
	before := bytes.Clone(frame)
	if _, _, _, err := in.Open(frame); err != ErrAuth || !bytes.Equal(frame, before) {
		t.Fatalf("%v, changed: %v", err, !bytes.Equal(frame, before))
	}
}

// I5: accepted once, in any order within the window, never before it.
// TestReplayIsCheap: a counter that was seen is refused before the frame is opened, so
// a flood of copies costs no AEAD, whatever is in them.
func TestReplayIsCheap(t *testing.T) {
	out, in := testPair(t)
	frame := sealFrame(out, pattern(8), NextIPv4, 5)
	forged := bytes.Clone(frame)
	forged[len(forged)-1] ^= 1
	if err := openErr(in, frame); err != nil {
		t.Fatal(err)
	}
	if err := openErr(in, forged); err != ErrReplay {
		t.Errorf("a forged copy: %v", err)
	}
}

func TestReplayEdges(t *testing.T) {
	out, in := testPair(t)
	frame := func(counter uint64) []byte { return sealFrame(out, pattern(8), NextIPv4, counter) }
	const top = 3 * replay.Size
	for _, c := range []struct {
		counter  uint64
		want     error
		advanced bool
	}{
		{top, nil, true}, {top, ErrReplay, false},
		{top - replay.Size, ErrReplay, false}, {top - replay.Size - 1, ErrReplay, false},
		{top - replay.Size + 1, nil, false}, {top - replay.Size + 1, ErrReplay, false},
		{top - 1, nil, false}, {top + 1, nil, true}, {1, ErrReplay, false},
		{MaxHardPackets, nil, true}, {top + 2, ErrReplay, false}, {MaxHardPackets - 1, nil, false},
	} {
		if _, _, advanced, err := in.Open(frame(c.counter)); err != c.want || advanced != c.advanced {
			t.Fatalf("counter %d: %v, advanced %v", c.counter, err, advanced)
		}
	}
}

// I5: a jump of 2^31 and any other far counter that is forged moves nothing.
func TestForgedFarFutureDoesNotMoveTheWindow(t *testing.T) {
	out, in := testPair(t)
	if err := openErr(in, sealFrame(out, pattern(8), NextIPv4, 1)); err != nil {
		t.Fatal(err)
	}
	before := in.window.Top()
	for _, far := range []uint64{2, replay.Size + 2, MaxHardPackets, 1 << 31, 1<<31 + 1, math.MaxUint32, math.MaxUint64} {
		forged := sealFrame(out, pattern(8), NextIPv4, 2)
		putHeader(forged, testSPI, uint32(far), far)
		forged[len(forged)-1] ^= 1
		if err := openErr(in, forged); err != ErrAuth {
			t.Fatalf("counter %d: %v", far, err)
		}
	}
	if in.window.Top() != before {
		t.Fatal("the window moved")
	}
	if err := openErr(in, sealFrame(out, pattern(8), NextIPv4, 2)); err != nil {
		t.Fatalf("the next honest frame: %v", err)
	}
}

func TestWrongSA(t *testing.T) {
	k := testKey(t)
	out, _ := pair(t, testSPI, k, DefaultLimits(), nil)
	_, other := pair(t, testSPI+1, k, DefaultLimits(), nil)
	if err := openErr(other, sealFrame(out, pattern(9), NextIPv4, 1)); err != ErrSPI {
		t.Fatalf("another SPI: %v", err)
	}
	material := testMaterial()
	material[35] ^= 1 // the salt's last byte
	salted, err := NewKey(AES256GCM, material)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger := pair(t, testSPI, salted, DefaultLimits(), nil)
	if err := openErr(stranger, sealFrame(out, pattern(9), NextIPv4, 1)); err != ErrAuth {
		t.Fatalf("another salt: %v", err)
	}
}

// Two copies that race through the AEAD are delivered once (I5), and every
// distinct frame is, however many workers there are.
func TestOpenConcurrently(t *testing.T) {
	const frames, workers = 400, scratchSlots + 4
	out, in := testPair(t)
	sealed := make([][]byte, frames)
	for i := range sealed {
		sealed[i] = sealFrame(out, pattern(100), NextIPv4, uint64(i)+1)
	}
	var delivered [frames]atomic.Int32
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i, frame := range sealed {
				err := openErr(in, frame)
				if err == nil {
					delivered[i].Add(1)
				} else if !errors.Is(err, ErrReplay) {
					t.Errorf("frame %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for i := range delivered {
		if n := delivered[i].Load(); n != 1 {
			t.Fatalf("frame %d delivered %d times", i, n)
		}
	}
}

// I5: both copies pass the first check before either is entered; the second
// check decides.
func TestCopiesThatPassTogetherAreEnteredOnce(t *testing.T) {
	out, in := testPair(t)
	frame := sealFrame(out, pattern(50), NextIPv4, 7)
	for range 2 {
		if counter, err := in.precheck(frame); counter != 7 || err != nil {
			t.Fatalf("precheck = %d, %v", counter, err)
		}
	}
	if advanced, err := in.accept(7, 50); !advanced || err != nil {
		t.Fatalf("first copy: %v, %v", advanced, err)
	}
	if advanced, err := in.accept(7, 50); advanced || err != ErrReplay || in.bytes != 50 {
		t.Fatalf("second copy: %v, %v, %d bytes", advanced, err, in.bytes)
	}
}

func TestInboundLimits(t *testing.T) {
	l := Limits{SoftPackets: 3, HardPackets: 6, SoftBytes: 100, HardBytes: 200}
	k := testKey(t)
	out, in := pair(t, testSPI, k, l, nil)
	open := func(n int, counter uint64) error { return openErr(in, sealFrame(out, pattern(n), NextIPv4, counter)) }
	if err := open(50, 2); err != nil || in.Soft() {
		t.Fatalf("%v, soft %v", err, in.Soft())
	}
	if err := open(50, 1); err != nil || !in.Soft() {
		t.Fatalf("%v, soft by bytes %v", err, in.Soft())
	}
	if err := open(100, 6); err != nil {
		t.Fatalf("up to the hard limit: %v", err)
	}
	for range 2 {
		if err := open(1, uint64(4)); err != ErrExhausted && err != ErrReplay {
			t.Fatalf("past the hard limit: %v", err)
		}
	}
	if err := open(1, 5); err != ErrExhausted {
		t.Fatalf("past the hard limit: %v", err)
	}
	_, packets := pair(t, testSPI, k, l, nil)
	if err := openErr(packets, sealFrame(out, pattern(1), NextIPv4, 3)); err != nil || !packets.Soft() {
		t.Fatalf("%v, soft by packets %v", err, packets.Soft())
	}
}
