package node

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/mka"
)

// TestOwnDevice: it stays the same from start to start, is one client's at a time, and
// where nothing can be kept the client is told so and goes on without.
func TestOwnDevice(t *testing.T) {
	var said bytes.Buffer
	config := ConnectConfig{User: "ann", DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&said, nil))}
	first, forget := ownDevice(config)
	if second, done := ownDevice(config); second != (mka.DeviceID{}) || strings.Count(said.String(), "device of its own") != 1 {
		t.Errorf("a second client is %v; said: %s", second, said.String())
	} else {
		done()
	}
	forget()
	again, forget := ownDevice(config)
	forget()
	if first == (mka.DeviceID{}) || again != first {
		t.Errorf("device %v, then %v", first, again)
	}
	said.Reset()
	config.DataDir = "/proc/nowhere"
	none, forget := ownDevice(config)
	forget()
	if none != (mka.DeviceID{}) || strings.Count(said.String(), "\n") != 1 {
		t.Errorf("device %v; said: %s", none, said.String())
	}
}
