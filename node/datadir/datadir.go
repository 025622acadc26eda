// Package datadir is a node's memory across restarts: its key, its
// certificate, the mesh it belongs to, the members it last knew. It owns the
// files and their modes. It never holds a traffic key (I1), and it decides
// nothing.
package datadir

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Errors of a Dir. Each is wrapped with the path and the next command.
var (
	ErrNoState = errors.New("datadir: no node state")
	ErrState   = errors.New("datadir: state exists already")
	ErrLocked  = errors.New("datadir: in use by another process")
	ErrDamaged = errors.New("datadir: damaged file")
)

// Names of the files in a data directory.
const (
	fileNode     = "node.json"
	fileKeys     = "node.key"
	fileCert     = "node.crt"
	fileMembers  = "members.json"
	fileFounding = "founding.json"
	fileKnown    = "known.json"
	fileTold     = "told.json"
	fileStarts   = "starts.json"
	fileLock     = "lock"
	// RaftDir holds the log of a voter or standby.
	RaftDir = "raft"
	// SocketName is the operator's local socket.
	SocketName = "meshcrypt.sock"
	// HostFile holds the host's own settings while they are changed.
	HostFile = "host.json"
)

// Dir is an opened and locked data directory.
type Dir struct {
	path string
	lock *os.File
}

// Node is what init or join decided, once.
type Node struct {
	Cluster  identity.ClusterID  `json:"cluster"`
	CA       []byte              `json:"ca"` // certificate, DER
	Name     string              `json:"name"`
	Index    identity.Index      `json:"index"`
	Listen   netip.AddrPort      `json:"listen"`
	Outer    netip.AddrPort      `json:"outer"`
	Other    netip.AddrPort      `json:"other,omitzero"` // of the other family
	InsideIf string              `json:"inside_if"`
	Inside   netip.Addr          `json:"inside"`
	Capacity uint32              `json:"capacity"` // thousandths of a CPU, 0: all
	TUN      string              `json:"tun"`
	Pool     []netip.Prefix      `json:"pool"`
	Egress   registry.EgressKind `json:"egress,omitempty"`
	Founder  bool                `json:"founder"`
	// Userspace is a node without a TUN: its stack is in the process.
	Userspace bool `json:"userspace,omitempty"`
}

// Outers are the addresses where others reach this node.
func (n Node) Outers() []netip.AddrPort { return registry.Outers(n.Outer, n.Other) }

// Keys are the node's private halves: what makes it this node.
type Keys struct {
	Identity []byte `json:"identity"` // seed
	Wrap     []byte `json:"wrap"`     // vault recipient, seed form
}

// Members is what the node last heard of the mesh; a hint to find it again.
type Members struct {
	Nodes     []protocol.NodeRow `json:"nodes"`
	GossipKey []byte             `json:"gossip_key"`
	Fence     protocol.Fence     `json:"fence"`
}

// Founding is the first command of a mesh, kept until it is committed.
type Founding struct {
	Found  registry.Found        `json:"found"`
	Tokens []registry.Token      `json:"tokens"`
	ID     [2]registry.CommandID `json:"id"`
}

// Open creates the directory if needed and locks it for this process.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("datadir: %w (choose another with --data-dir)", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, fileLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("datadir: %w (choose another with --data-dir)", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w: %s (stop that daemon, or choose another with --data-dir)", ErrLocked, path)
	}
	return &Dir{path: path, lock: lock}, nil
}

// Close releases the lock.
func (d *Dir) Close() error { return d.lock.Close() }

// Path joins a name to the directory.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// HasNode reports whether the directory belongs to a node already.
func (d *Dir) HasNode() bool {
	_, err := os.Stat(d.Path(fileNode))
	return err == nil
}

// Lost are the files without which no daemon can start as this node again, and that
// somebody removed.
func (d *Dir) Lost() (names []string) {
	for _, name := range []string{fileNode, fileKeys, fileCert} {
		if _, err := os.Stat(d.Path(name)); errors.Is(err, fs.ErrNotExist) {
			names = append(names, name)
		}
	}
	return names
}

// Node reads what init or join decided; ErrNoState if neither ran.
func (d *Dir) Node() (n Node, err error) {
	err = d.read(fileNode, &n)
	return n, err
}

// Keys reads the private keys.
func (d *Dir) Keys() (k Keys, err error) {
	err = d.read(fileKeys, &k)
	return k, err
}

// Members reads the last known members; none is not an error.
func (d *Dir) Members() (m Members, err error) {
	if err := d.read(fileMembers, &m); err != nil && !errors.Is(err, ErrNoState) {
		return m, err
	}
	return m, nil
}

// Known reads the furthest that was known; none is not an error. An older build kept the
// fence alone, with the members. That is what is left, beside ErrDamaged, where the file
// is damaged.
func (d *Dir) Known() (k protocol.Known, err error) {
	damaged := d.read(fileKnown, &k)
	if errors.Is(damaged, ErrNoState) {
		damaged = nil
	}
	if damaged != nil {
		k = protocol.Known{}
	}
	if damaged != nil && !errors.Is(damaged, ErrDamaged) {
		return k, damaged
	}
	members, err := d.Members()
	if told := (protocol.Known{Fence: members.Fence}); err == nil && k.Less(told) {
		k = told
	}
	return k, cmp.Or(err, damaged)
}

// SaveKnown writes it in place, so that a full disk has room for it: a node that cannot
// keep a fence must not obey its arbiter. The first time there is no place yet, and one that
// is to outlive a loss of power is made as all files are.
func (d *Dir) SaveKnown(k protocol.Known) error {
	raw, err := json.Marshal(k)
	if err != nil || len(raw) > knownSize {
		return fmt.Errorf("datadir: %d bytes: %w", len(raw), err)
	}
	raw = append(raw, bytes.Repeat([]byte(" "), knownSize-len(raw))...)
	f, err := os.OpenFile(d.Path(fileKnown), os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return d.replace(fileKnown, raw)
	}
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	_, err = f.WriteAt(raw, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return nil
}

// knownSize is a sector: it is written whole or not at all.
const knownSize = 512

// Told names a log whose refusals the arbiter was told, by its end.
type Told struct {
	Term  uint64 `json:"term"`
	Index uint64 `json:"index"`
	Waits bool   `json:"waits,omitempty"` // certificates do, for room
}

// sameLog says that both are of one log.
func (t Told) sameLog(o Told) bool { return t.Term == o.Term && t.Index == o.Index }

// told is the file: the newest of them, which is all that builds of before read, and those
// of before it.
type told struct {
	Told
	Earlier []Told `json:"earlier,omitempty"`
}

// maxTold is of how many logs it is kept. There are two at a time at most: the present one,
// and one from before the mesh was recovered.
const maxTold = 4

func (d *Dir) told() (t told, err error) {
	if err = d.read(fileTold, &t); errors.Is(err, ErrNoState) {
		err = nil
	}
	return t, err
}

// Told is what was told of the log that ends there; none is not an error.
func (d *Dir) Told(term, index uint64) (Told, error) {
	t, err := d.told()
	for _, was := range append([]Told{t.Told}, t.Earlier...) {
		if was.sameLog(Told{Term: term, Index: index}) {
			return was, err
		}
	}
	return Told{}, err
}

// SaveTold writes it, beside what was told of other logs.
func (d *Dir) SaveTold(is Told) error {
	t, err := d.told()
	if err != nil {
		t = told{} // damaged: it begins again
	}
	earlier := slices.DeleteFunc(append([]Told{t.Told}, t.Earlier...), func(was Told) bool { return was == Told{} || was.sameLog(is) })
	return d.write(fileTold, told{is, earlier[:min(len(earlier), maxTold-1)]})
}

// starts is how often a node has started with this directory.
type starts struct {
	Count uint64 `json:"count"`
}

// CountStart is how often a node has started with this directory before, by what is kept
// of it. Where that is damaged it begins again, and where it cannot be kept the number is
// good for this time.
func (d *Dir) CountStart() (before uint64, err error) {
	var s starts
	if err = d.read(fileStarts, &s); err != nil && !errors.Is(err, ErrNoState) && !errors.Is(err, ErrDamaged) {
		return 0, err
	}
	return s.Count, d.write(fileStarts, starts{s.Count + 1})
}

// Founding reads the first command, if it still waits to be committed.
func (d *Dir) Founding() (f Founding, ok bool, err error) {
	err = d.read(fileFounding, &f)
	if errors.Is(err, ErrNoState) {
		return f, false, nil
	}
	return f, err == nil, err
}

// Certificate reads the node's certificate, DER.
func (d *Dir) Certificate() ([]byte, error) {
	raw, err := os.ReadFile(d.Path(fileCert))
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	return raw, nil
}

// Save functions replace a file whole or not at all.

// SaveKeys writes the private keys, mode 0600.
func (d *Dir) SaveKeys(k Keys) error { return d.write(fileKeys, k) }

// SaveNode writes what init or join decided; from then on HasNode.
func (d *Dir) SaveNode(n Node) error { return d.write(fileNode, n) }

// SaveMembers writes the last known members.
func (d *Dir) SaveMembers(m Members) error { return d.write(fileMembers, m) }

// SaveFounding writes the first command of a new mesh.
func (d *Dir) SaveFounding(f Founding) error { return d.write(fileFounding, f) }

// ForgetFounding removes the first command once it is committed.
func (d *Dir) ForgetFounding() error { return os.Remove(d.Path(fileFounding)) }

// SaveCertificate writes the node's certificate, DER.
func (d *Dir) SaveCertificate(der []byte) error { return d.replace(fileCert, der) }

// Forget removes everything that makes this a member: after leave.
func (d *Dir) Forget() error {
	for _, name := range []string{fileNode, fileKeys, fileCert, fileMembers, fileFounding, fileKnown, fileTold, fileStarts, RaftDir} {
		if err := os.RemoveAll(d.Path(name)); err != nil {
			return fmt.Errorf("datadir: %w", err)
		}
	}
	return nil
}

func (d *Dir) read(name string, into any) error {
	raw, err := os.ReadFile(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is missing (run meshcrypt init, or meshcrypt join <peer>)", ErrNoState, d.Path(name))
	}
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, d.Path(name), err)
	}
	return nil
}

func (d *Dir) write(name string, value any) error {
	raw, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return d.replace(name, raw)
}

// replace writes beside the file, syncs, renames: a crash leaves the old or
// the new content, never half of one.
func (d *Dir) replace(name string, raw []byte) error {
	next := d.Path(name + ".new")
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(next, d.Path(name))
	}
	if err == nil {
		err = d.sync()
	}
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return nil
}

// sync makes a rename outlive a loss of power: a key that was registered must
// not be forgotten.
func (d *Dir) sync() error {
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
