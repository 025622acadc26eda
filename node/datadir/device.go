package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Device is what a client keeps between its runs: a random id, another one for each
// mesh and user, so that none of them can be told to be the same host. It is no
// secret, and not to be guessed.
type Device struct {
	ID   [16]byte
	file *os.File
}

// OpenDevice reads the id from a data directory, or makes it, mode 0600, and keeps it
// to this process until Close: a second client of the same user on this host must
// not take the first one's session over. Errors: ErrLocked for that, and those of
// the file system where nothing can be kept.
func OpenDevice(path string, cluster identity.ClusterID, user string) (*Device, error) {
	if !filepath.IsLocal(user) || filepath.Base(user) != user {
		return nil, fmt.Errorf("datadir: %q is no user's name", user) // a profile may say anything
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	name := filepath.Join(path, "device-"+cluster.String()+"-"+user)
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	d := &Device{file: file}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if err := d.read(); err != nil {
		file.Close()
		return nil, fmt.Errorf("datadir: %w", err)
	}
	return d, nil
}

// read takes the id; what is no id, as after a crash while it was written, is
// replaced by a fresh one.
func (d *Device) read() error {
	text := make([]byte, 2*len(d.ID)+1)
	n, _ := d.file.ReadAt(text, 0)
	raw, err := hex.DecodeString(strings.TrimSuffix(string(text[:n]), "\n"))
	if err == nil && len(raw) == len(d.ID) {
		d.ID = [16]byte(raw)
		return nil
	}
	rand.Read(d.ID[:])
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	if _, err := d.file.WriteAt([]byte(hex.EncodeToString(d.ID[:])+"\n"), 0); err != nil {
		return err
	}
	return d.file.Sync()
}

// Close lets another client be this device.
func (d *Device) Close() error { return d.file.Close() }
