package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const (
	scheme        = "mesh://"
	clusterLength = 32 // hexadecimal digits of a ClusterID
	nodeLength    = 52 // base32 characters of a NodeID
)

// tagURI is uniformResourceIdentifier in GeneralName (RFC 5280 4.2.1.6).
const tagURI = 6

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Name is what a certificate says of its holder. Roles are in ascending order
// and distinct. A role that this version does not know is kept and grants
// nothing, so that versions can mix.
type Name struct {
	Cluster identity.ClusterID
	Roles   []string
	Node    identity.NodeID
}

// String returns mesh://<cluster>/<roles joined by commas>/<node>.
func (n Name) String() string {
	return authorityName(n.Cluster) + "/" + strings.Join(n.Roles, ",") + "/" + n.Node.String()
}

// authorityName is the name of the CA itself: the cluster and nothing else.
func authorityName(cluster identity.ClusterID) string { return scheme + cluster.String() }

// ParseName reads the one canonical text of a name; anything that String would
// not have written is refused with ErrName.
func ParseName(text string) (Name, error) {
	rest, found := strings.CutPrefix(text, scheme)
	if !found || len(text) > MaxName {
		return Name{}, fmt.Errorf("%w: no %s URI of at most %d bytes", ErrName, scheme, MaxName)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Name{}, fmt.Errorf("%w: %d parts, want cluster, roles and node", ErrName, len(parts))
	}
	n := Name{Roles: strings.Split(parts[1], ",")}
	if err := n.Cluster.UnmarshalText([]byte(parts[0])); err != nil {
		return Name{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	if err := n.Node.UnmarshalText([]byte(parts[2])); err != nil {
		return Name{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	if err := checkRoles(n.Roles); err != nil {
		return Name{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	// Upper case, spare base32 bits and the line breaks that a base32 decoder
	// skips would give one node several names.
	if n.String() != text {
		return Name{}, fmt.Errorf("%w: %q is not in canonical form", ErrName, text)
	}
	return n, nil
}

// checkRoles demands 1 to MaxRoles lower-case words in strictly ascending order.
func checkRoles(roles []string) error {
	if len(roles) == 0 || len(roles) > MaxRoles {
		return fmt.Errorf("%w: %d roles, want 1 to %d", ErrRole, len(roles), MaxRoles)
	}
	for i, role := range roles {
		if !isRole(role) {
			return fmt.Errorf("%w: %q is not 1 to %d lower-case letters", ErrRole, role, MaxRole)
		}
		if i > 0 && roles[i-1] >= role {
			return fmt.Errorf("%w: %q after %q, want ascending order", ErrRole, role, roles[i-1])
		}
	}
	return nil
}

func isRole(role string) bool {
	notLower := func(r rune) bool { return r < 'a' || r > 'z' }
	return len(role) >= 1 && len(role) <= MaxRole && !strings.ContainsFunc(role, notLower)
}

// ascending returns the roles as a name wants them, without changing the
// caller's slice. A role given twice stays and is refused by checkRoles.
func ascending(roles []string) []string {
	out := slices.Clone(roles)
	slices.Sort(out)
	return out
}

// nameExtension is a subject alternative name that holds one URI. It is
// critical because our leaves have an empty subject (RFC 5280 4.2.1.6).
func nameExtension(uri string) pkix.Extension {
	names := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: tagURI, Bytes: []byte(uri)}}
	der, err := asn1.Marshal(names)
	if err != nil {
		panic("pki: internal error: " + err.Error())
	}
	return pkix.Extension{Id: oidSubjectAltName, Critical: true, Value: der}
}

// certificateName reads the URI from the extension's own bytes, not from a
// parsed URL that may print differently. Any other or further name is refused, and
// so is a URI in pieces: DER has one encoding of each string (X.690, 10.2).
func certificateName(cert *x509.Certificate) (string, error) {
	for _, extension := range cert.Extensions {
		if !extension.Id.Equal(oidSubjectAltName) {
			continue
		}
		var names []asn1.RawValue
		rest, err := asn1.Unmarshal(extension.Value, &names)
		if err != nil || len(rest) != 0 || len(names) != 1 {
			return "", fmt.Errorf("%w: not exactly one alternative name", ErrName)
		}
		if names[0].Class != asn1.ClassContextSpecific || names[0].Tag != tagURI || names[0].IsCompound {
			return "", fmt.Errorf("%w: alternative name is no URI", ErrName)
		}
		return string(names[0].Bytes), nil
	}
	return "", fmt.Errorf("%w: no alternative name", ErrName)
}
