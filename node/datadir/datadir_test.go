package datadir

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "dir")
	d := open(t, path)
	if _, err := Open(path); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestWhatIsSavedComesBack(t *testing.T) {
	path := t.TempDir()
	d := open(t, path)
	node := Node{
		Cluster: identity.ClusterID{1}, CA: []byte{2}, Name: "n1", Index: 3, Listen: netip.MustParseAddrPort("0.0.0.0:6484"),
		Inside: netip.MustParseAddr("10.0.0.1"), Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}, Founder: true,
	}
	keys := Keys{Identity: []byte{4}, Wrap: []byte{5}}
	members := Members{Nodes: []protocol.NodeRow{{Index: 3, Name: "n1"}}, GossipKey: []byte{6}, Fence: protocol.Fence{Incarnation: 1, Term: 7}}
	founding := Founding{Found: registry.Found{Cluster: registry.Cluster{ID: identity.ClusterID{1}}}, ID: [2]registry.CommandID{{8}, {9}}}
	if d.HasNode() {
		t.Error("an empty directory belongs to a node")
	}
	if err := errors.Join(d.SaveKeys(keys), d.SaveCertificate([]byte{10}), d.SaveMembers(members), d.SaveFounding(founding), d.SaveNode(node)); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	d = open(t, path)
	gotNode, err1 := d.Node()
	gotKeys, err2 := d.Keys()
	gotMembers, err3 := d.Members()
	gotFounding, waits, err4 := d.Founding()
	cert, err5 := d.Certificate()
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	if !d.HasNode() || !waits || string(cert) != "\x0a" || !reflect.DeepEqual(gotNode, node) || !reflect.DeepEqual(gotKeys, keys) ||
		!reflect.DeepEqual(gotMembers, members) || gotFounding.ID != founding.ID || gotFounding.Found.Cluster.ID != founding.Found.Cluster.ID {
		t.Errorf("%+v\n%+v\n%+v\n%+v", gotNode, gotKeys, gotMembers, gotFounding)
	}
	if err := d.ForgetFounding(); err != nil {
		t.Fatal(err)
	}
	if _, waits, err := d.Founding(); waits || err != nil {
		t.Errorf("founding still waits: %v", err)
	}
	modes(t, path)
	if lost := d.Lost(); len(lost) != 0 {
		t.Errorf("lost: %v", lost)
	}
	if err := errors.Join(os.Remove(d.Path(fileKeys)), os.Remove(d.Path(fileCert))); err != nil || !slices.Equal(d.Lost(), []string{fileKeys, fileCert}) {
		t.Errorf("lost: %v, %v", d.Lost(), err)
	}
	if err := errors.Join(os.Mkdir(d.Path(RaftDir), 0o700), d.Forget()); err != nil || d.HasNode() {
		t.Errorf("still a member after leaving: %v", err)
	}
	if _, err := os.Stat(d.Path(RaftDir)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the log is still there after leaving")
	}
	if _, err := d.Keys(); !errors.Is(err, ErrNoState) {
		t.Errorf("keys after leaving: %v", err)
	}
}

// modes holds that nobody but the owner reads anything.
func modes(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) < 5 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	fresh := filepath.Join(path, "fresh")
	open(t, fresh)
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
}

func TestMissingAndDamagedFiles(t *testing.T) {
	d := open(t, t.TempDir())
	reads := map[string]func() error{
		fileNode:     func() error { _, err := d.Node(); return err },
		fileKeys:     func() error { _, err := d.Keys(); return err },
		fileMembers:  func() error { _, err := d.Members(); return err },
		fileFounding: func() error { _, _, err := d.Founding(); return err },
	}
	optional := map[string]bool{fileMembers: true, fileFounding: true}
	for name, read := range reads {
		if err := read(); errors.Is(err, ErrNoState) == optional[name] {
			t.Errorf("%s is missing: %v", name, err)
		}
		for _, text := range []string{"", "{", `{"index":"x","nodes":1,"identity":1,"found":1}`} {
			if err := os.WriteFile(d.Path(name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := read(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), d.Path(name)) {
				t.Errorf("%s holds %q: %v", name, text, err)
			}
		}
	}
	if _, err := d.Certificate(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no certificate: %v", err)
	}
}

// TestReplaceIsAtomic: what a crash left half written is never read, and does
// not stop the next save; a failed save leaves the old content.
func TestReplaceIsAtomic(t *testing.T) {
	d := open(t, t.TempDir())
	if err := d.SaveKeys(Keys{Identity: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(fileKeys+".new"), []byte(`{"identi`), 0o600); err != nil {
		t.Fatal(err)
	}
	if k, err := d.Keys(); err != nil || k.Identity[0] != 1 {
		t.Errorf("after a crash: %v, %v", k, err)
	}
	if err := d.SaveKeys(Keys{Identity: []byte{2}}); err != nil {
		t.Errorf("save after a crash: %v", err)
	}
	if err := os.Mkdir(d.Path(fileKeys+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveKeys(Keys{Identity: []byte{3}}); err == nil {
		t.Error("saved into a directory")
	}
	if k, err := d.Keys(); err != nil || k.Identity[0] != 2 {
		t.Errorf("after a failed save: %v, %v", k, err)
	}
}

// TestStartsAreCounted: also after what is kept of them was damaged; what cannot be kept
// is good for once.
func TestStartsAreCounted(t *testing.T) {
	d := open(t, t.TempDir())
	count := func(want uint64) {
		t.Helper()
		if before, err := d.CountStart(); before != want || err != nil {
			t.Errorf("%d, want %d: %v", before, want, err)
		}
	}
	count(0)
	count(1)
	if err := os.Mkdir(d.Path(fileStarts+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if before, err := d.CountStart(); before != 2 || err == nil {
		t.Errorf("where nothing can be kept: %d, %v", before, err)
	}
	if err := errors.Join(os.Remove(d.Path(fileStarts+".new")), os.WriteFile(d.Path(fileStarts), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	count(0)
	count(1)
}

// TestKnownIsKeptInPlace: no new block is asked of the disk, and the fence that an older
// build kept with the members counts. A torn file is said, and that fence is left.
func TestKnownIsKeptInPlace(t *testing.T) {
	d := open(t, t.TempDir())
	if k, err := d.Known(); !reflect.DeepEqual(k, protocol.Known{}) || err != nil {
		t.Errorf("of a new directory: %+v, %v", k, err)
	}
	fence := protocol.Fence{Incarnation: 2, Term: 7}
	known := protocol.Known{Fence: fence, Index: 12}
	obstacle := d.Path(fileKnown + ".new")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.SaveKnown(known); err == nil {
		t.Error("its place is made without a rename and a sync of the directory: power that is lost takes it along")
	}
	if err := errors.Join(os.Remove(obstacle), d.SaveKnown(known), os.Mkdir(obstacle, 0o700)); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(d.Path(fileKnown))
	if err != nil {
		t.Fatal(err)
	}
	want := protocol.Known{
		Fence: protocol.Fence{Incarnation: 1 << 63, Term: 1 << 63}, Index: 1 << 63,
		By: identity.PublicKey{1}, Signature: bytes.Repeat([]byte{2}, 64), Leadership: bytes.Repeat([]byte{3}, 16), Vouched: bytes.Repeat([]byte{4}, 64), Keep: true,
	}
	if err := d.SaveKnown(want); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(d.Path(fileKnown))
	if err != nil || !os.SameFile(before, after) || before.Size() != after.Size() {
		t.Errorf("the file grew or is another: %d, %d, %v", before.Size(), after.Size(), err)
	}
	if k, err := d.Known(); !reflect.DeepEqual(k, want) || err != nil {
		t.Errorf("%+v, %v", k, err)
	}
	if err := errors.Join(os.Truncate(d.Path(fileKnown), 20), d.SaveMembers(Members{Fence: fence})); err != nil {
		t.Fatal(err)
	}
	if k, err := d.Known(); !reflect.DeepEqual(k, protocol.Known{Fence: fence}) || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), d.Path(fileKnown)) {
		t.Errorf("torn: %+v, %v", k, err)
	}
	if err := os.Remove(d.Path(fileKnown)); err != nil {
		t.Fatal(err)
	}
	if k, err := d.Known(); !reflect.DeepEqual(k, protocol.Known{Fence: fence}) || err != nil {
		t.Errorf("an older build's: %+v, %v", k, err)
	}
}

// TestToldOfEachLog: what was told of one is kept beside what was told of others, of the newest
// few. A build of before finds the newest where it looks.
func TestToldOfEachLog(t *testing.T) {
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	save := func(all ...Told) {
		t.Helper()
		for _, is := range all {
			if err := d.SaveTold(is); err != nil {
				t.Fatal(err)
			}
		}
	}
	is := func(want Told) {
		t.Helper()
		if got, err := d.Told(want.Term, want.Index); got != want || err != nil {
			t.Errorf("of %+v it has %+v, %v", want, got, err)
		}
	}
	if none, err := d.Told(1, 7); none != (Told{}) || err != nil {
		t.Errorf("of none it has %+v, %v", none, err)
	}
	one, other := Told{Term: 1, Index: 7, Waits: true}, Told{Term: 2, Index: 9}
	as := Told{Term: 3, Index: one.Index} // as long as one
	save(one, other, as)
	one.Waits = false
	save(one)
	is(one)
	is(other)
	is(as)
	for range maxTold { // of one log again and again
		save(other)
	}
	is(one)
	is(as)
	save(one)
	var newest Told
	if err := d.read(fileTold, &newest); err != nil || newest != one {
		t.Errorf("an older build reads %+v, %v", newest, err)
	}
	for i := range uint64(2 * maxTold) { // I10
		save(Told{Term: 3, Index: i + 1})
	}
	all, err := d.told()
	if err != nil || len(all.Earlier) != maxTold-1 || all.Index != 2*maxTold {
		t.Errorf("%+v, %v", all, err)
	}
	if err := os.WriteFile(d.Path(fileTold), []byte(`{"term":4,"index":5}`), 0o600); err != nil { // of an older build
		t.Fatal(err)
	}
	is(Told{Term: 4, Index: 5})
	if err := os.WriteFile(d.Path(fileTold), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Told(4, 5); !errors.Is(err, ErrDamaged) {
		t.Errorf("of a damaged file: %v", err)
	}
	save(other)
	is(other)
}
