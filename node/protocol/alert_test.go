package protocol

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestAlert: a stream lives as long as something comes, a slow frame too, and ends
// when its other end is gone without a word.
func TestAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		heard := NewStream(Alert{near, Silence})
		begin := time.Now()
		go func() {
			frame := []byte{0, 0, 0, 2, '{', '}'}
			for _, b := range frame { // a byte each two seconds
				<-time.After(Silence - time.Second)
				far.Write([]byte{b})
			}
		}()
		if _, err := heard.Read(); err != nil {
			t.Fatalf("a slow frame: %v", err)
		}
		began := time.Since(begin)
		if _, err := heard.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("silence: %v", err)
		}
		if took := time.Since(begin) - began; took < Silence || took > Silence+time.Second {
			t.Errorf("silence was heard after %v", took)
		}
		far.Close()
	})
}
