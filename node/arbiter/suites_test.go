package arbiter

import (
	"errors"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func TestChooseSuite(t *testing.T) {
	const aes, chacha, small, unbuilt = esp.AES256GCM, esp.ChaCha20Poly1305, esp.AES128GCM, esp.Suite(9)
	for name, c := range map[string]struct {
		offered []esp.Suite
		policy  []uint16
		want    esp.Suite // 0: none
	}{
		"the client's first without a policy":   {[]esp.Suite{chacha, aes}, nil, chacha},
		"the client's first that is built":      {[]esp.Suite{unbuilt, small}, nil, small},
		"the policy's first":                    {[]esp.Suite{chacha, aes, small}, []uint16{1, 2}, aes},
		"the policy's first that is offered":    {[]esp.Suite{small, chacha}, []uint16{1, 2, 3}, chacha},
		"the policy's first that is built":      {[]esp.Suite{unbuilt, chacha}, []uint16{9, 2}, chacha},
		"not what the policy leaves out":        {[]esp.Suite{aes, small}, []uint16{2}, 0},
		"nothing built without a policy":        {[]esp.Suite{unbuilt}, nil, 0},
		"nothing built, though policy names it": {[]esp.Suite{unbuilt}, []uint16{9}, 0},
	} {
		got, ok := chooseSuite(c.offered, c.policy)
		if got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %v, %t", name, got, ok)
		}
	}
}

// TestSettle: a new session gets a suite by policy; a resumed one keeps its own,
// whatever the policy says by now, and must still be offered it.
func TestSettle(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	f.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{Suites: []uint16{2}}}})
	settle := func(m *protocol.Auth, offered ...esp.Suite) (esp.Suite, error) {
		c := &clientStream{introduction: &introduction{hello: mka.Hello{Suites: offered}}}
		err := a.settle(c, m)
		return c.suite, err
	}
	login := &protocol.Auth{Method: protocol.MethodPassword}
	if got, err := settle(login, esp.AES256GCM, esp.ChaCha20Poly1305); got != esp.ChaCha20Poly1305 || err != nil {
		t.Errorf("a login: %v, %v", got, err)
	}
	refused(t, errOf(settle(login, esp.AES256GCM)), "the client offers AES-256-GCM, the mesh uses ChaCha20-Poly1305")
	old := &protocol.Auth{Method: protocol.MethodResume, Session: registry.SessionID{1}}
	f.store.state.Sessions.Put(old.Session, &registry.Session{Slices: []registry.Slice{{Suite: uint16(esp.AES128GCM)}}})
	if got, err := settle(old, esp.AES256GCM, esp.AES128GCM); got != esp.AES128GCM || err != nil {
		t.Errorf("a resumption: %v, %v", got, err)
	}
	refused(t, errOf(settle(old, esp.ChaCha20Poly1305)), "the mesh uses AES-128-GCM")
}

func errOf(_ esp.Suite, err error) error { return err }

func refused(t *testing.T, err error, reason string) {
	t.Helper()
	var refusal *errNo
	if !errors.As(err, &refusal) || refusal.Code != protocol.RefusedVersion || !strings.Contains(refusal.Reason, reason) {
		t.Errorf("%v, want a refusal with %q", err, reason)
	}
}
