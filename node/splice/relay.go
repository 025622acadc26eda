package splice

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// relayBuffers are what relays copy through.
var relayBuffers = sync.Pool{New: func() any { return new([relayBuffer]byte) }}

// Relay is Both for connections that rest most of their time, and of which there
// are many: it knows no limit of silence, keeps little memory for each, and ends
// with ctx. The other direction of one that has ended may go on for
// HalfCloseLinger; a failure closes both. Where b calls who wants to read it, no goroutine
// waits for that.
func Relay(ctx context.Context, a, b net.Conn) {
	closeBoth := func() { a.Close(); b.Close() }
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	defer closeBoth()

	done := make(chan struct{})
	if !follow(a, b, closeBoth, done) {
		go func() {
			defer close(done)
			relay(a, b, closeBoth)
		}()
	}
	relay(b, a, closeBoth)
	<-done
}

// relay copies from src to dst.
func relay(dst, src net.Conn, closeBoth func()) {
	for {
		err := Await(src)
		if err == nil {
			err = hand(dst, src)
		}
		if err != nil {
			ended(dst, src, err, closeBoth)
			return
		}
	}
}

// ended passes the end of src on.
func ended(dst, src net.Conn, why error, closeBoth func()) {
	if why != io.EOF || CloseWrite(dst) != nil {
		closeBoth()
		return
	}
	end := time.Now().Add(HalfCloseLinger) // for the other direction
	dst.SetReadDeadline(end)
	src.SetWriteDeadline(end)
}

// hand passes on what one read gives. The buffer is another's as soon as that is done.
func hand(dst, src net.Conn) error {
	buffer := relayBuffers.Get().(*[relayBuffer]byte)
	defer relayBuffers.Put(buffer)
	n, err := src.Read(buffer[:])
	if n > 0 {
		if _, err := dst.Write(buffer[:n]); err != nil {
			return fmt.Errorf("splice: %w", err) // never io.EOF, which is how src ends
		}
	}
	return err
}

// Await waits, where a connection can, until a read of it would not, and keeps no buffer
// meanwhile. The end of it may be its error, or that of the read.
func Await(c net.Conn) error {
	switch c := c.(type) {
	case interface{ Await() error }:
		return c.Await()
	case *net.TCPConn:
		return awaitTCP(c)
	}
	return nil
}

// awaitTCP looks at the first byte that waits, and leaves it there.
func awaitTCP(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Read(func(fd uintptr) bool {
		var first [1]byte
		_, _, err := unix.Recvfrom(int(fd), first[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return err != unix.EAGAIN // the read says what else there is
	})
}
