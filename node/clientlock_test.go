package node

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/client"
)

// A second client of a run directory is refused before it logs in and before it
// touches the socket of the first; one that waits for an end gets it.
func TestOneClientInARunDirectory(t *testing.T) {
	dir := t.TempDir()
	unlock, err := LockClient(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, ClientSocket)
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second := ConnectConfig{
		RunDir: dir, DataDir: t.TempDir(), TUN: "mc-second0", Log: slog.New(slog.DiscardHandler),
		Login: func(client.Binding) (client.Login, error) {
			t.Error("it logs in")
			return client.Login{}, errors.New("no")
		},
	}
	err = Connect(t.Context(), second)
	var runs *ClientRuns
	if !errors.As(err, &runs) || !errors.Is(err, ErrClientRuns) || runs.PID != os.Getpid() {
		t.Errorf("a second client: %v", err)
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("the socket of the first: %v", err)
	}
	if runs := ClientRunning(dir); runs == nil || runs.PID != os.Getpid() {
		t.Errorf("asked who runs: %v", runs)
	}
	time.AfterFunc(ClientEndsWithin/4, unlock)
	unlock, err = LockClient(t.Context(), dir)
	if err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	unlock()
	if runs := ClientRunning(dir); runs != nil {
		t.Errorf("nobody runs, and yet: %v", runs)
	}
}

// A client of a build that knows no lock is seen by its socket.
func TestAnOlderClientRuns(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, ClientSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if ClientRunning(dir) == nil {
		t.Error("nobody runs")
	}
	if unlock, err := LockClient(t.Context(), dir); !errors.Is(err, ErrClientRuns) {
		t.Errorf("locked: %v", err)
		unlock()
	}
}
