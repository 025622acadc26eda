package splice

import (
	"context"
	"io"
	"net"
	"time"
)

// Relay is Both for connections that rest most of their time, and of which there
// are many: it knows no limit of silence, keeps little memory for each, and ends
// with ctx. The other direction of one that has ended may go on for
// HalfCloseLinger; a failure closes both.
func Relay(ctx context.Context, a, b net.Conn) {
	closeBoth := func() { a.Close(); b.Close() }
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	defer closeBoth()

	done := make(chan struct{})
	go func() {
		defer close(done)
		relay(a, b, closeBoth)
	}()
	relay(b, a, closeBoth)
	<-done
}

// relay copies from src to dst. Only the two calls are hidden from io.Copy:
// their shortcuts would bring a larger buffer for each idle connection.
func relay(dst, src net.Conn, closeBoth func()) {
	buf := make([]byte, relayBuffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	if err != nil || CloseWrite(dst) != nil {
		closeBoth()
		return
	}
	end := time.Now().Add(HalfCloseLinger) // for the other direction
	dst.SetReadDeadline(end)
	src.SetWriteDeadline(end)
}
