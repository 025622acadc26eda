package arbiter

import (
	"slices"
	"strings"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// chooseSuite picks a session's cipher out of what its client offers, best first:
// the policy's first that is offered, or without a policy the client's first that
// this build knows. The client checks by hash(M1) that its whole offer was seen.
func chooseSuite(offered []esp.Suite, policy []uint16) (esp.Suite, bool) {
	wanted, among := offered, esp.Suites()
	if len(policy) > 0 {
		wanted, among = nil, offered
		for _, number := range policy {
			if s := esp.Suite(number); s.Built() {
				wanted = append(wanted, s)
			}
		}
	}
	for _, s := range wanted {
		if slices.Contains(among, s) {
			return s, true
		}
	}
	return 0, false
}

// settle finds the suite for a client that has proved who it is. A session that is
// resumed keeps its own, which the client must still offer.
func (a *Arbiter) settle(c *clientStream, m *protocol.Auth) error {
	var found bool
	var policy []uint16
	a.config.Store.View(func(s *registry.State) {
		policy = slices.Clone(s.Policy.Suites)
		if live := s.Sessions.Get(m.Session); m.Method == protocol.MethodResume && live != nil && len(live.Slices) > 0 {
			c.suite = esp.Suite(live.Slices[0].Suite)
			found = slices.Contains(c.hello.Suites, c.suite)
			policy = []uint16{uint16(c.suite)}
			return
		}
		c.suite, found = chooseSuite(c.hello.Suites, policy)
	})
	if !found {
		return no(protocol.RefusedVersion, "no common cipher suite: the client offers %s, the mesh uses %s",
			suiteNames(c.hello.Suites), suiteNames(policySuites(policy)))
	}
	return nil
}

// policySuites are the suites that a policy allows.
func policySuites(policy []uint16) []esp.Suite {
	if len(policy) == 0 {
		return esp.Suites()
	}
	list := make([]esp.Suite, len(policy))
	for i, number := range policy {
		list[i] = esp.Suite(number)
	}
	return list
}

func suiteNames(list []esp.Suite) string {
	names := make([]string, len(list))
	for i, s := range list {
		names[i] = s.String()
	}
	return strings.Join(names, ", ")
}
