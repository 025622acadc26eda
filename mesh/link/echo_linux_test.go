package link

import (
	"runtime"
	"syscall"
	"testing"
)

// BenchmarkEcho is what a socket that answers costs, whose reader is its own or a
// Group's: one train at a time, and several. CPU time is of both ends.
func BenchmarkEcho(b *testing.B) {
	for _, c := range []struct {
		name               string
		size, segment, fly int
	}{{"lone", 100, 0, 1}, {"train", 45 * 1400, 1400, 1}, {"trains", 45 * 1400, 1400, 8}} {
		b.Run(c.name+"/own", func(b *testing.B) {
			s := open(b, "127.0.0.1:0")
			go func() {
				buffer := make([]byte, MaxTrain+1024)
				for t, err := s.Receive(buffer); err == nil; t, err = s.Receive(buffer) {
					_ = s.Send(buffer[:t.Len], t.Segment, t.Path)
				}
			}()
			echo(b, s, c.size, c.segment, c.fly)
		})
		b.Run(c.name+"/group", func(b *testing.B) {
			g := group(b, runtime.NumCPU())
			var s Sender
			ready := make(chan struct{})
			s = join(b, g, func(m []byte, t Train) { <-ready; _ = s.Send(m, t.Segment, t.Path) })
			close(ready)
			echo(b, s, c.size, c.segment, c.fly)
		})
	}
}

func echo(b *testing.B, s Sender, size, segment, fly int) {
	peer, buffer, datagram := open(b, "127.0.0.1:0"), make([]byte, MaxTrain+1024), make([]byte, size)
	send := func() {
		if err := peer.Send(datagram, segment, Path{Remote: s.LocalAddr()}); err != nil {
			b.Fatal(err)
		}
	}
	for range fly {
		send()
	}
	before := processor()
	for b.Loop() {
		for got := 0; got < size; {
			t, err := peer.Receive(buffer)
			if err != nil {
				b.Fatal(err)
			}
			got += t.Len
		}
		send()
	}
	b.ReportMetric(float64(processor()-before)/float64(b.N), "cpu-ns/op")
}

// processor is the CPU time of this process: less noisy than time where others work too.
func processor() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}
