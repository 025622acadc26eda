package host

import (
	"errors"
	"net/netip"
	"os"
	"slices"
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

// TestWhatKeepsClosed: what is told of a host after kill -9 is what stands, whatever
// other software removed since; nothing is called blocked that is not.
func TestWhatKeepsClosed(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	const unled = "ip rule del pref 16484; ip -6 rule del pref 16484\n"
	dir := t.TempDir()
	for _, c := range []struct {
		taken string
		by    []Closer
	}{
		{"true", []Closer{ByRoutes, ByFence}},
		{unled, []Closer{ByFence}},
		{"ip route flush table 6484; ip -6 route flush table 6484", []Closer{ByFence}},
		{"ip rule add pref 100 lookup main; ip -6 rule add pref 100 lookup main", []Closer{ByFence}},
		{unfiltered, []Closer{ByRoutes}},
		{"nft flush chain inet meshcrypt_client_fence fence", []Closer{ByRoutes}},
		{"ip -6 rule del pref 16484; nft delete table inet meshcrypt_client_fence; nft add table inet other", []Closer{ByRoutes}},
		{unfiltered + unled, nil},
	} {
		config := clientConfig(dir)
		prepareClient(t, config).Leave()
		run(t, c.taken)
		got, err := ReadClosed(config.StateFile)
		if err != nil {
			t.Fatal(err)
		}
		want := config.Prefixes
		switch {
		case c.by == nil:
			want = nil
		case strings.HasPrefix(c.taken, "ip -6 rule del"):
			want = want[:2] // IPv6 is open
		}
		if !slices.Equal(got.By, c.by) || !slices.Equal(got.Prefixes, want) {
			t.Errorf("after %q: %v by %v, want %v by %v", c.taken, got.Prefixes, got.By, want, c.by)
		}
		run(t, "while ip rule del pref 100 2>/dev/null; do :; done; while ip -6 rule del pref 100 2>/dev/null; do :; done")
		if err := RestoreClient(config.StateFile); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPrefixesOfARange: a range is told in prefixes, also where it ends with its family.
func TestPrefixesOfARange(t *testing.T) {
	for _, text := range []string{
		"0.0.0.0/0", "10.0.0.0/8 10.128.0.0/9 192.0.2.1/32", "10.0.0.0/24 10.0.1.0/25", "255.255.255.255/32", "::/0", "fd00::1/128 ff00::/8",
	} {
		var want, got []netip.Prefix
		for _, word := range strings.Fields(text) {
			want = append(want, netip.MustParsePrefix(word))
		}
		for _, r := range rangesOfBoth(slices.Clone(want)) {
			got = append(got, r.prefixes()...)
		}
		want = slices.DeleteFunc(want, func(p netip.Prefix) bool { return p == netip.MustParsePrefix("10.128.0.0/9") }) // is in another
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", text, got)
		}
	}
}
