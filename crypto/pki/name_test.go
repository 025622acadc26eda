package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func goldenName(t testing.TB) Name {
	return Name{
		Cluster: clusterOf("golden"),
		Roles:   []string{RoleAgent, RoleGateway, RoleVoter},
		Node:    keyOf(t, "golden").ID(),
	}
}

func TestNameGolden(t *testing.T) {
	const want = "mesh://dd56de4137951d9c92681b03416ec15f/agent,gateway,voter/fvycati2ieurfko7xl3nchvr3yq3naj5im2t77v47yotogem3qqq"
	if got := goldenName(t).String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestNameRefused(t *testing.T) {
	good := goldenName(t).String()
	cluster, node := clusterOf("golden").String(), keyOf(t, "golden").ID().String()
	for what, text := range map[string]string{
		"empty":              "",
		"scheme alone":       scheme,
		"other scheme":       strings.Replace(good, "mesh:", "mosh:", 1),
		"upper-case scheme":  strings.Replace(good, "mesh:", "MESH:", 1),
		"cluster upper case": scheme + strings.ToUpper(cluster) + "/agent/" + node,
		"cluster short":      scheme + cluster[1:] + "/agent/" + node,
		"no cluster":         scheme + "/agent/" + node,
		"no roles":           scheme + cluster + "//" + node,
		"empty role":         scheme + cluster + "/agent,,voter/" + node,
		"trailing comma":     scheme + cluster + "/agent,/" + node,
		"role upper case":    scheme + cluster + "/Agent/" + node,
		"role with digit":    scheme + cluster + "/agent1/" + node,
		"role twice":         scheme + cluster + "/agent,agent/" + node,
		"roles descending":   scheme + cluster + "/voter,agent/" + node,
		"role escaped":       scheme + cluster + "/%61gent/" + node,
		"role too long":      scheme + cluster + "/" + strings.Repeat("a", MaxRole+1) + "/" + node,
		"no node":            scheme + cluster + "/agent/",
		"node upper case":    scheme + cluster + "/agent/" + strings.ToUpper(node),
		"node short":         scheme + cluster + "/agent/" + node[1:],
		"node with newline":  scheme + cluster + "/agent/" + node[:20] + "\n" + node[20:],
		"node spare bits":    scheme + cluster + "/agent/" + node[:51] + "b",
		"trailing slash":     good + "/",
		"query":              good + "?x",
		"fragment":           good + "#x",
		"user":               strings.Replace(good, "//", "//x@", 1),
		"port":               strings.Replace(good, "/agent", ":1/agent", 1),
		"leading space":      " " + good,
		"NUL":                good + "\x00",
	} {
		if _, err := ParseName(text); err == nil {
			t.Errorf("%s: %q was accepted", what, text)
		} else {
			wantError(t, what, err, ErrName)
		}
	}
}

// I10: the longest name that the limits allow is read, one more role is not.
func TestNameLimits(t *testing.T) {
	n := goldenName(t)
	n.Roles = nil
	for i := range MaxRoles {
		n.Roles = append(n.Roles, strings.Repeat("a", MaxRole-1)+string(rune('a'+i)))
	}
	text := n.String()
	if len(text) != MaxName {
		t.Fatalf("longest name has %d bytes, MaxName is %d", len(text), MaxName)
	}
	if got, err := ParseName(text); err != nil || got.String() != text {
		t.Errorf("longest name: %v, %v", got, err)
	}
	n.Roles = strings.Split("a,b,c,d,e,f,g,h,i", ",")
	_, err := ParseName(n.String())
	wantError(t, "one role too many", err, ErrRole)
}

// Each byte of a name, put to each other value, is refused or is another name
// that prints as itself.
func TestNameEveryByte(t *testing.T) {
	text := []byte(goldenName(t).String())
	for at, was := range text {
		for value := range 256 {
			text[at] = byte(value)
			if n, err := ParseName(string(text)); err == nil && n.String() != string(text) {
				t.Errorf("byte %d as %#x reads as %s", at, value, n)
			}
		}
		text[at] = was
	}
}

func TestLengthOfARole(t *testing.T) {
	for n, want := range map[int]bool{0: false, 1: true, MaxRole: true, MaxRole + 1: false} {
		if isRole(strings.Repeat("r", n)) != want {
			t.Errorf("%d letters: taken %v", n, !want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(goldenName(f).String())
	f.Add(authorityName(clusterOf("golden")))
	f.Add(Name{Roles: []string{RoleArbiter}}.String())
	f.Add("mesh://a/b/c")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := ParseName(text); err == nil && n.String() != text {
			t.Errorf("%q reads as %q", text, n.String())
		}
	})
}

// The extension is judged by its own bytes: one URI, and nothing beside it.
func TestCertificateNameRefused(t *testing.T) {
	uri := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(goldenName(t).String())}
	dns := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("a.example")}
	pieces := uri
	pieces.IsCompound = true
	for what, names := range map[string][]asn1.RawValue{
		"none": {}, "a URI in pieces": {pieces}, "two URIs": {uri, uri}, "DNS name": {dns}, "URI and DNS name": {uri, dns},
	} {
		der, err := asn1.Marshal(names)
		if err != nil {
			t.Fatal(err)
		}
		extension := pkix.Extension{Id: oidSubjectAltName, Value: der}
		_, err = certificateName(&x509.Certificate{Extensions: []pkix.Extension{extension}})
		wantError(t, what, err, ErrName)
	}
	_, err := certificateName(&x509.Certificate{})
	wantError(t, "no extension", err, ErrName)
}

func FuzzCertificateName(f *testing.F) {
	f.Add(nameExtension(goldenName(f).String()).Value)
	f.Add(nameExtension("").Value)
	f.Add([]byte{0x30, 0x80, 0x86})
	f.Fuzz(func(t *testing.T, value []byte) {
		extension := pkix.Extension{Id: oidSubjectAltName, Value: value}
		text, err := certificateName(&x509.Certificate{Extensions: []pkix.Extension{extension}})
		if err == nil && string(nameExtension(text).Value) != string(value) {
			t.Errorf("%x reads as %q", value, text)
		}
	})
}

func TestIssuedName(t *testing.T) {
	m := newMesh(t, "a")
	cert, err := x509.ParseCertificate(m.node[0])
	if err != nil {
		t.Fatal(err)
	}
	want := Name{Cluster: m.Cluster(), Roles: []string{RoleAgent, RoleGateway}, Node: m.key.ID()}.String()
	if len(cert.URIs) != 1 || cert.URIs[0].String() != want {
		t.Errorf("crypto/x509 reads %v, want %s", cert.URIs, want)
	}
	if want[len(want)-nodeLength:] != m.key.ID().String() || len(identity.ClusterID{}.String()) != clusterLength {
		t.Error("lengths in name.go are not those of crypto/identity")
	}
}
