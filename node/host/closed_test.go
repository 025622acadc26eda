package host

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// What stays closed says since when and why, and opens from the state file alone,
// however that is damaged.
func TestClosedIsNotedAndOpened(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	config := clientConfig(t.TempDir())
	at := time.Date(2026, 11, 29, 1, 2, 3, 4, time.UTC)
	read := func() *Closed {
		t.Helper()
		c, err := ReadClosed(config.StateFile)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := read(); c != nil {
		t.Errorf("closed before anything was: %+v", c)
	}
	if err := errors.Join(NoteClosed(config.StateFile, "x", at), RestoreClient(config.StateFile)); err != nil {
		t.Errorf("without a state file: %v", err)
	}
	prepareClient(t, config).Leave()
	if c := read(); c == nil || c.Why != "" || !c.Since.IsZero() || len(c.Prefixes) != 3 {
		t.Errorf("left without a word: %+v", c)
	}
	if err := NoteClosed(config.StateFile, strings.Repeat("x", 2*maxWhy), at); err != nil {
		t.Fatal(err)
	}
	if c := read(); len(c.Why) != maxWhy || !c.Since.Equal(at.Truncate(time.Second)) {
		t.Errorf("%+v", c)
	}
	if info, err := os.Stat(config.StateFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v, %v", info.Mode(), err)
	}
	prepareClient(t, config).Leave() // a next client takes over: the old reason is void
	if c := read(); c.Why != "" {
		t.Errorf("an older reason stayed: %+v", c)
	}
	whole, err := os.ReadFile(config.StateFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config.StateFile, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadClosed(config.StateFile); !errors.Is(err, ErrDamaged) || len(c.Prefixes) != 3 {
		t.Errorf("a half: %+v, %v", c, err)
	}
	if _, err := PrepareClient(config); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "meshcrypt disconnect") {
		t.Errorf("a client over a half: %v", err)
	}
	fails(t, "ip route get 10.20.0.1")
	if err := RestoreClient(config.StateFile); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip route get 10.20.0.1", "outside0")
	lacks(t, "nft list tables", "meshcrypt")
	if c := read(); c != nil {
		t.Errorf("closed after it was opened: %+v", c)
	}
}

// Routes and filters end with the boot.
func TestClosedOfAnEarlierBoot(t *testing.T) {
	path := t.TempDir() + "/host.json"
	text := `{"schema":"meshcrypt.host/v1","boot":"another","role":"client","table":6484,"closing":{"since":"2026-11-29T01:02:03Z","why":"x"}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadClosed(path); c != nil || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
}
