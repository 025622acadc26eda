package trunk

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// counted is a connection that counts what is written to it: system calls, where it is TCP.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// carried is a trunk as nodes have it, in TLS over TCP, and what it has written at both ends.
func carried(b *testing.B) (both, *atomic.Int64) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	writes := new(atomic.Int64)
	near := tls.Client(counted{dialled, writes}, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	far := tls.Server(counted{accepted, writes}, &tls.Config{Certificates: []tls.Certificate{certificate(b)}, MinVersion: tls.VersionTLS13})
	shaken := make(chan error, 1)
	go func() { shaken <- far.Handshake() }()
	if err := near.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-shaken; err != nil {
		b.Fatal(err)
	}
	p := both{New(near), New(far), make(chan *Stream, MaxStreams), make(chan string, MaxStreams), make(chan error, 1)}
	go p.near.Run(nil)
	go p.far.Run(func(s *Stream, word []byte) { p.opened <- s })
	b.Cleanup(p.near.Close)
	return p, writes
}

func certificate(b *testing.B) tls.Certificate {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		b.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: private}
}

// spent is the CPU time of this process.
func spent(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// beat is as long as a client's beat in its record.
var beat = make([]byte, 26)

// pair opens a stream, over which something went.
func (p both) pair(b *testing.B) (near, far *Stream) {
	near, err := p.near.Open(nil)
	if err == nil {
		_, err = near.Write(beat)
	}
	if far = <-p.opened; err == nil {
		err = read(far, make([]byte, len(beat)))
	}
	if err != nil {
		b.Fatal(err)
	}
	return near, far
}

// BenchmarkQuiet is the way of a word and its answer over a trunk that carries nothing else.
func BenchmarkQuiet(b *testing.B) {
	p, _ := carried(b)
	near, far := p.pair(b)
	go func() {
		for word := make([]byte, len(beat)); read(far, word) == nil; {
			far.Write(word)
		}
	}()
	var took time.Duration
	for word := make([]byte, len(beat)); b.Loop(); {
		<-time.After(20 * time.Millisecond) // it is quiet again
		began := time.Now()
		near.Write(beat)
		if err := read(near, word); err != nil {
			b.Fatal(err)
		}
		took += time.Since(began)
	}
	b.ReportMetric(float64(took.Microseconds())/float64(b.N), "µs/trip")
}

// BenchmarkBusy is what a frame costs both ends where each of 64 streams has one to send
// every 60 ms or so: a thousand a second, as the beats of some thousand clients and the words
// of those that log in.
func BenchmarkBusy(b *testing.B) {
	const streams, frames, each = 64, 8, 60 * time.Millisecond
	p, writes := carried(b)
	var all [streams][2]*Stream
	for i := range all {
		all[i][0], all[i][1] = p.pair(b)
	}
	before, wrote, turns := spent(b), writes.Load(), 0
	for ; b.Loop(); turns++ {
		var heard sync.WaitGroup
		for _, s := range all {
			heard.Go(func() { read(s[1], make([]byte, frames*len(beat))) })
			go func() {
				for range frames {
					<-time.After(each/2 + mathrand.N(each))
					s[0].Write(beat)
				}
			}()
		}
		heard.Wait()
	}
	said := float64(turns * streams * frames)
	b.ReportMetric(float64((spent(b)-before).Nanoseconds())/said, "cpu-ns/frame")
	b.ReportMetric(float64(writes.Load()-wrote)/said, "writes/frame")
}
