package datadir

import (
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestDirectoryOfOlderBuild: what e45f7b0 kept of a node is read, and written again it
// is the same.
func TestDirectoryOfOlderBuild(t *testing.T) {
	from, path := filepath.Join("testdata", "e45f7b0"), t.TempDir()
	read := func(dir, name string) []byte {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	put := func(name string, raw []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := []string{fileNode, fileKeys, fileMembers}
	for _, name := range files {
		put(name, read(from, name))
	}
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(read(from, fileCert+".base64")), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	put(fileCert, der)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	n, errNode := d.Node()
	k, errKeys := d.Keys()
	m, errMembers := d.Members()
	raw, errCert := d.Certificate()
	for _, err := range []error{errNode, errKeys, errMembers, errCert} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n.Name != "n1" || n.Index != 1 || n.Egress != registry.EgressMasquerade || !n.Userspace || !n.Founder || len(n.Pool) != 1 {
		t.Errorf("node %+v", n)
	}
	key, err := identity.KeyFromSeed(k.Identity)
	if err != nil || len(m.Nodes) != 1 || m.Nodes[0].ID != key.ID() || len(m.GossipKey) != 32 || m.Fence.Term == 0 {
		t.Errorf("members %+v, %v", m, err)
	}
	if cert, err := x509.ParseCertificate(raw); err != nil || len(cert.URIs) != 1 || !strings.Contains(cert.URIs[0].String(), n.Cluster.String()) {
		t.Errorf("certificate %v", err)
	}
	for _, err := range []error{d.SaveNode(n), d.SaveKeys(k), d.SaveMembers(m)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range files {
		if was, is := read(from, name), read(path, name); string(was) != string(is) {
			t.Errorf("%s was\n%s\nis\n%s", name, was, is)
		}
	}
}
