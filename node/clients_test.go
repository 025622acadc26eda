package node

import (
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// clients is the operator's side of one mesh, and bob in it.
type clients struct {
	*world
	node *Node
	r    *http.Request
	bob  registry.Client
}

func newClients(t *testing.T) *clients {
	t.Helper()
	c := &clients{world: newWorld(t, 1)}
	c.node = c.members[0].Node
	var err error
	c.r, err = http.NewRequestWithContext(c.Context(), http.MethodPost, "/", nil)
	c.ok(err)
	c.bob = registry.Client{
		Name: "bob", PasswordKey: identity.PublicKey{1}, Bandwidth: 5_000_000,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.20.0.100/32")},
	}
	return c
}

func (c *clients) put(client registry.Client, change ...string) error {
	_, err := c.node.putClient(c.r, control.ClientRequest{Client: client, Replace: change != nil, Change: change})
	return err
}

func (c *clients) refused(err error, code int, next string) {
	c.Helper()
	if e, ok := err.(*control.Error); !ok || e.Code != code || !strings.Contains(e.Next, next) {
		c.Errorf("%v, want code %d and next %q", err, code, next)
	}
}

// is sees that the registry's bob is ours.
func (c *clients) is(what string) {
	c.Helper()
	got, err := c.node.findClient("bob")
	c.ok(err)
	got.Created = 0
	if !reflect.DeepEqual(*got, c.bob) {
		c.Errorf("%s: %+v, want %+v", what, *got, c.bob)
	}
}

// TestClientsChangeByName: what a change does not name stays, and a name that is
// taken is refused.
func TestClientsChangeByName(t *testing.T) {
	t.Parallel()
	c := newClients(t)
	c.refused(c.put(c.bob, control.ChangePrefixes), control.CodeFailed, "client add bob")
	c.ok(c.put(c.bob))
	c.refused(c.put(registry.Client{Name: "bob", PasswordKey: identity.PublicKey{9}}), control.CodeFailed, "client passwd bob")
	c.is("refused")

	c.ok(c.put(registry.Client{Name: "bob", PasswordKey: identity.PublicKey{2}}, control.ChangePassword))
	c.bob.PasswordKey = identity.PublicKey{2}
	c.is("another password")
	c.ok(c.put(registry.Client{Name: "bob", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.21.0.0/16")}}, control.ChangePrefixes))
	c.bob.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.21.0.0/16")}
	c.is("another prefix")
	c.ok(c.put(registry.Client{Name: "bob", Bandwidth: 1}, control.ChangeBandwidth))
	c.bob.Bandwidth = 1
	c.is("another bandwidth")
	c.refused(c.put(c.bob, []string{}...), control.CodeUsage, "client add --help")
	c.refused(c.put(c.bob, "colour"), control.CodeUsage, "client add --help")

	c.ok(c.put(registry.Client{Name: "bob", Authority: registry.MeshAuthority}, control.ChangeLogin))
	c.bob.PasswordKey, c.bob.Authority = identity.PublicKey{}, registry.MeshAuthority
	c.is("another login")
	c.refused(c.put(registry.Client{Name: "bob", PasswordKey: identity.PublicKey{3}}, control.ChangePassword), control.CodeFailed, "--replace --password-file")
}

// TestUnknownNamesAreSaidSo, with the command that lists the known ones.
func TestUnknownNamesAreSaidSo(t *testing.T) {
	t.Parallel()
	c := newClients(t)
	_, client := c.node.revokeClient(c.r, control.NameRequest{Name: "nobody"})
	_, token := c.node.revokeToken(c.r, control.NameRequest{Name: "nothing"})
	_, authority := c.node.revokeCertificate(c.r, control.RevokeRequest{Authority: "nowhere"})
	for err, want := range map[error]struct{ next, cause string }{
		client: {"meshcrypt client list", `there is no client "nobody"`}, token: {"meshcrypt token list", `there is no token "nothing"`},
		authority: {"meshcrypt ca show", `there is no authority "nowhere"`},
	} {
		c.refused(err, control.CodeFailed, want.next)
		if !strings.HasPrefix(err.Error(), want.cause) {
			t.Errorf("%q, want %q", err, want.cause)
		}
	}
}

// TestShutOutClients: nobody who was shut out comes back but by the word for it.
func TestShutOutClients(t *testing.T) {
	t.Parallel()
	c := newClients(t)
	c.ok(c.put(c.bob))
	_, err := c.node.revokeClient(c.r, control.NameRequest{Name: "bob"})
	c.ok(err)
	c.bob.Revoked = true
	c.refused(c.put(c.bob), control.CodeFailed, "client enable bob")
	c.refused(c.put(c.bob, control.ChangePrefixes), control.CodeFailed, "client enable bob")
	c.is("revoked")
	for range 2 { // twice is once
		_, err = c.node.enableClient(c.r, control.NameRequest{Name: "bob"})
		c.ok(err)
	}
	c.bob.Revoked = false
	c.is("enabled")
	_, err = c.node.enableClient(c.r, control.NameRequest{Name: "eve"})
	c.refused(err, control.CodeFailed, "client add eve")
	all, err := c.node.listClients(c.r, control.Nothing{})
	if err != nil || !slices.ContainsFunc(all.Clients, func(row control.ClientRow) bool { return row.Name == "bob" && row.State == "allowed" }) {
		t.Errorf("%+v, %v", all, err)
	}
}
