package datadir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestDevice: the id outlives the process, is one of this mesh and user alone, and
// one client's at a time.
func TestDevice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	open := func(cluster byte, user string) [16]byte {
		t.Helper()
		d, err := OpenDevice(dir, identity.ClusterID{cluster}, user)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return d.ID
	}
	first := open(1, "ann")
	if first == ([16]byte{}) || open(1, "ann") != first {
		t.Error("the id did not stay")
	}
	if open(2, "ann") == first || open(1, "bob") == first {
		t.Error("another mesh or user knows the device by the same id")
	}
	held, err := OpenDevice(dir, identity.ClusterID{1}, "ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDevice(dir, identity.ClusterID{1}, "ann"); !errors.Is(err, ErrLocked) {
		t.Errorf("a second client is the same device: %v", err)
	}
	held.Close()
	name := filepath.Join(dir, "device-"+identity.ClusterID{1}.String()+"-ann")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v %v", info, err)
	}
	for _, damaged := range []string{"", "0011", "x0112233445566778899aabbccddeeff\n", "00112233445566778899aabbccddeeff0011\n"} {
		if err := os.WriteFile(name, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if id := open(1, "ann"); id == ([16]byte{}) || id != open(1, "ann") {
			t.Errorf("%q was not replaced by an id", damaged)
		}
	}
	victim := filepath.Join(filepath.Dir(dir), "victim")
	if err := os.WriteFile(victim, []byte("somebody else's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"x/../../victim", "../victim", "/etc/hosts", "a/b", "", ".."} { // a profile may say anything
		if _, err := OpenDevice(dir, identity.ClusterID{1}, user); err == nil {
			t.Errorf("user %q has a file", user)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "somebody else's" {
		t.Errorf("a profile wrote to another file: %q %v", text, err)
	}
	if _, err := OpenDevice("/proc/nowhere", identity.ClusterID{1}, "ann"); err == nil {
		t.Error("an id in a place that nobody can write to")
	}
}
