package port

import (
	"context"
	"io"
	"net"
	"time"
)

// Splice copies both ways between two connections until both directions have
// ended, one has failed, or ctx is done; then both are closed and no goroutine
// is left. An end of one direction is passed on as an end of that direction;
// the other may go on for HalfCloseLinger.
func Splice(ctx context.Context, a, b net.Conn) {
	closeBoth := func() { a.Close(); b.Close() }
	stop := context.AfterFunc(ctx, closeBoth)
	defer stop()
	defer closeBoth()

	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(a, b, closeBoth)
	}()
	pass(b, a, closeBoth)
	<-done
}

// pass copies from src to dst. Only the two calls are hidden from io.Copy:
// their shortcuts would bring a larger buffer for each idle connection.
func pass(dst, src net.Conn, closeBoth func()) {
	buf := make([]byte, spliceBuffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	if err != nil || closeWrite(dst) != nil {
		closeBoth()
		return
	}
	end := time.Now().Add(HalfCloseLinger) // for the other direction
	dst.SetReadDeadline(end)
	src.SetWriteDeadline(end)
}

// closeWrite ends our direction of a connection; one that cannot is closed.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
