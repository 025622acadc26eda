package mka

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// scene holds the parties of one slice and what they have made. A test changes
// a field before it calls the next step.
type scene struct {
	t       testing.TB
	random  *rand.ChaCha8
	arbiter identity.Key
	agents  map[string]identity.Key
	session identity.Key
	boot    identity.BootID
	floor   Fence

	hello  []byte
	secret *PrekeySecret
	prekey SignedPrekey
	grant  Grant
	signed SignedGrant
	share  Share
	spiC   uint32

	agent      *Agent
	client     *Client
	acceptData []byte
	clientKeys Keys
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{t: t, random: rand.NewChaCha8([32]byte{1}), spiC: 0x1000, floor: Fence{1, 5}}
	s.arbiter = s.key()
	s.agents = map[string]identity.Key{"a": s.key(), "b": s.key()}
	s.session = s.key()
	s.boot = identity.BootID{1}
	_, _ = s.random.Read(s.share[:])
	s.hello = s.offer().Marshal()
	s.newPrekey(1)
	s.grant = s.plainGrant()
	s.signed = SignGrant(s.arbiter, s.grant)
	return s
}

func (s *scene) key() identity.Key {
	k, err := identity.NewKey(s.random)
	must(s.t, err)
	return k
}

func (s *scene) offer() Hello {
	return Hello{
		Versions: []uint16{Version}, Suites: []esp.Suite{esp.AES256GCM, esp.ChaCha20Poly1305},
		Request: [16]byte{9}, Nonce: [32]byte{8}, SessionKey: s.session.Public(),
		Bandwidth: 2_000_000_000, Peer: "printer",
	}
}

func (s *scene) newPrekey(local uint32) {
	var err error
	s.secret, s.prekey, err = NewPrekey(s.random, s.agents["a"], s.boot, esp.MakeSPI(7, local), 600)
	must(s.t, err)
}

func (s *scene) plainGrant() Grant {
	a := s.agents["a"]
	return Grant{
		Version: Version, Cluster: identity.ClusterID{3}, Incarnation: 1, Term: 5, Index: 77,
		Session: [16]byte{4}, Slice: 1, Epoch: 1, Suite: esp.AES256GCM, Weight: 100, Mode: "burst",
		Agent: a.ID(), AgentKey: a.Public(), Boot: s.boot, SPI: s.secret.SPI(),
		Gateways: []netip.AddrPort{
			netip.MustParseAddrPort("192.0.2.1:6484"), netip.MustParseAddrPort("[2001:db8::1]:6484"),
		},
		SessionKey: s.session.Public(), IdentityHash: [32]byte{5},
		Leases: []netip.Addr{netip.MustParseAddr("10.77.0.9"), netip.MustParseAddr("fd00::9")},
		Policy: 12, HelloHash: HashHello(s.hello),
	}
}

// start makes both machines; the Accept is made, not delivered.
func (s *scene) start() *scene {
	s.t.Helper()
	must(s.t, s.newAgent())
	must(s.t, s.newClient())
	return s
}

// given is a copy of the share to give away.
func (s *scene) given() *Share {
	share := s.share
	return &share
}

func (s *scene) newAgent() (err error) {
	s.agent, err = NewAgent(s.signed, s.arbiter.Public(), s.given(), s.secret, s.agents["a"], s.floor)
	return err
}

func (s *scene) newClient() (err error) {
	s.client, s.acceptData, s.clientKeys, err = NewClient(s.random, s.session, s.signed,
		s.arbiter.Public(), s.prekey, s.given(), s.hello, s.spiC)
	return err
}

// established delivers Accept and Confirm and returns both key pairs.
func (s *scene) established() (agent, client Keys) {
	s.t.Helper()
	s.start()
	confirm, keys, err := s.agent.Accept(s.acceptData)
	must(s.t, err)
	must(s.t, s.client.Confirm(confirm))
	return *keys, s.clientKeys
}

// rekey runs one whole rekey to SPI_C spiC.
func (s *scene) rekey(local, spiC uint32) (agent, client Keys) {
	s.t.Helper()
	parts := s.offerParts(local)
	answer, keys := s.answerParts(parts, spiC)
	confirm, agentKeys := s.acceptParts(answer)
	must(s.t, s.client.RekeyConfirm(confirm))
	return *agentKeys, *keys
}

func (s *scene) offerParts(local uint32) [][]byte {
	s.t.Helper()
	s.newPrekey(local)
	parts, err := s.agent.Offer(s.random, s.secret, s.prekey)
	must(s.t, err)
	return parts
}

func (s *scene) answerParts(parts [][]byte, spiC uint32) (answer [][]byte, keys *Keys) {
	s.t.Helper()
	for _, p := range parts {
		var err error
		answer, keys, err = s.client.OfferPart(s.random, p, spiC)
		must(s.t, err)
	}
	if answer == nil {
		s.t.Fatal("the whole offer gave no answer")
	}
	return answer, keys
}

func (s *scene) acceptParts(parts [][]byte) (confirm []byte, keys *Keys) {
	s.t.Helper()
	for _, p := range parts {
		var err error
		confirm, keys, err = s.agent.AcceptPart(p)
		must(s.t, err)
	}
	if confirm == nil {
		s.t.Fatal("the whole answer gave no confirm")
	}
	return confirm, keys
}

// sameKey compares material, which esp.Key shows to nobody else.
func sameKey(a, b esp.Key) bool { return reflect.DeepEqual(a, b) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func flipped(b []byte, at int) []byte {
	out := append([]byte(nil), b...)
	out[at] ^= 1 << (at % 8)
	return out
}
