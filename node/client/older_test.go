package client

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestProfileOfOlderBuild: the profiles that e45f7b0 printed are read, and printed
// again are the same.
func TestProfileOfOlderBuild(t *testing.T) {
	for name, method := range map[string]string{"ann": "", "site": "psk"} {
		raw, err := os.ReadFile("testdata/e45f7b0/" + name + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParseProfile(raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Gateways) != 2 || p.Method != method || p.Text() != string(raw) {
			t.Errorf("%s: %+v\n%s", name, p, p.Text())
		}
	}
}

// TestArbiterOfOlderBuild: one that knows no channel says all in TLS, and is heard to its
// end, which is no end of the session.
func TestArbiterOfOlderBuild(t *testing.T) {
	f := newFixture(t)
	f.older = true
	gateway, _ := f.arbiterAt(&protocol.Client{Welcome: &protocol.Welcome{}}, &protocol.Client{Up: &protocol.SliceRef{Number: 1}})
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	defer cancel()
	next, err := f.serveControl(ctx, gateway, nil, &patience{})
	reset := errors.Is(err, syscall.ECONNRESET) // the client ended its TLS, too, and nobody was there to read that
	if next == nil || err != io.EOF && err != io.ErrUnexpectedEOF && !reset {
		t.Fatalf("resumes by %+v, %v", next, err)
	}
	heard := 0
	for len(f.events) > 0 {
		switch (<-f.events).(type) {
		case welcomed, controlReceived:
			heard++
		}
	}
	if heard != 2 {
		t.Errorf("heard %d of 2 messages", heard)
	}
}
