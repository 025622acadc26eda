package esp

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/replay"
)

const benchPayload = 1420

func TestZeroAllocations(t *testing.T) {
	for _, suite := range Suites() {
		t.Run(suite.String(), func(t *testing.T) { checkZeroAllocations(t, suite) })
	}
}

func checkZeroAllocations(t *testing.T, suite Suite) {
	out, in := suitePair(t, suite)
	frame := make([]byte, SealedLen(benchPayload))
	stranger := make([]byte, MinFrame)
	out.tr.heat()
	in.tr.heat()
	for c := range uint64(replay.Size) { // the window has its room
		in.window.Update(c)
	}
	if _, err := out.Reserve(replay.Size, 0); err != nil {
		t.Fatal(err)
	}
	allocs := testing.AllocsPerRun(500, func() {
		counter, err := out.Reserve(1, benchPayload)
		if err != nil {
			t.Fatal(err)
		}
		sealed := out.Seal(frame, benchPayload, NextIPv4, counter)
		if _, _, _, err := in.Open(sealed); err != nil {
			t.Fatal(err)
		}
		putHeader(stranger, testSPI, uint32(counter+1), counter+1)
		if _, _, _, err := in.Open(stranger); err != ErrAuth {
			t.Fatal(err)
		}
		ParseSPI(stranger)
	})
	if allocs != 0 {
		t.Fatalf("%v allocations for a packet", allocs)
	}
}

func BenchmarkReserve(b *testing.B) {
	out, _ := testPair(b)
	for b.Loop() {
		out.used.Store(0)
		if _, err := out.Reserve(45, 64_000); err != nil {
			b.Fatal(err)
		}
	}
}

// eachSuite runs a benchmark for every suite, side by side.
func eachSuite(b *testing.B, run func(b *testing.B, out *Outbound, in *Inbound)) {
	for _, suite := range Suites() {
		out, in := suitePair(b, suite)
		b.Run(suite.String(), func(b *testing.B) {
			b.SetBytes(benchPayload)
			b.ReportAllocs()
			run(b, out, in)
		})
	}
}

func BenchmarkSeal(b *testing.B) { eachSuite(b, benchmarkSeal) }

func benchmarkSeal(b *testing.B, out *Outbound, _ *Inbound) {
	frame := make([]byte, SealedLen(benchPayload))
	for n := uint64(0); b.Loop(); n++ {
		out.Seal(frame, benchPayload, NextIPv4, n%MaxHardPackets+1)
	}
}

// BenchmarkAEAD is Seal without ESP: what the cipher alone takes.
func BenchmarkAEAD(b *testing.B) { eachSuite(b, benchmarkAEAD) }

func benchmarkAEAD(b *testing.B, out *Outbound, _ *Inbound) {
	frame := make([]byte, SealedLen(benchPayload))
	nonce := make([]byte, nonceSize)
	plain := frame[PayloadOffset : len(frame)-icvSize]
	aead := out.tr.cipher()
	for b.Loop() {
		aead.Seal(plain[:0], nonce, plain, frame[:headerSize])
	}
}

// BenchmarkOpen includes copying the frame, because Open consumes it.
func BenchmarkOpen(b *testing.B) { eachSuite(b, benchmarkOpen) }

func benchmarkOpen(b *testing.B, out *Outbound, in *Inbound) {
	const frames = 256
	var sealed [frames][]byte
	for i := range sealed {
		sealed[i] = sealFrame(out, pattern(benchPayload), NextIPv4, uint64(i)+1)
	}
	frame := make([]byte, len(sealed[0]))
	for n := 0; b.Loop(); n++ {
		if n%frames == 0 {
			in.window = replay.Window{}
		}
		copy(frame, sealed[n%frames])
		if _, _, _, err := in.Open(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealParallel(b *testing.B) {
	out, _ := testPair(b)
	b.SetBytes(benchPayload)
	b.RunParallel(func(pb *testing.PB) {
		frame := make([]byte, SealedLen(benchPayload))
		var first uint64
		for n := 0; pb.Next(); n++ {
			if n%45 == 0 {
				first, _ = out.Reserve(45, 64_000)
			}
			out.Seal(frame, benchPayload, NextIPv4, first+uint64(n%45))
		}
	})
}
