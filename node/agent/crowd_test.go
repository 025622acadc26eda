package agent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// numbered is a session of a crowd, and its leases.
func numbered(n int) (id registry.SessionID, leases []netip.Addr) {
	binary.BigEndian.PutUint32(id[:], uint32(n)+1)
	six := netip.MustParseAddr("fd77::").As16()
	binary.BigEndian.PutUint32(six[12:], uint32(n)+16)
	return id, []netip.Addr{netip.AddrFrom4([4]byte{10, 77, byte(n >> 8), byte(n)}), netip.AddrFrom16(six)}
}

// holdSlice gives the agent a slice without a client, as a grant does.
func (f *fixture) holdSlice(key sliceKey, leases []netip.Addr) *slice {
	f.Helper()
	s := &slice{
		key: key, grant: granted{SPI: f.freshSPI(own), Leases: leases},
		since: f.Agent.config.Now(), local: dataplane.NewSpread(1),
	}
	f.slices.add(s)
	return s
}

// keys makes a pair of a slice that is held.
func (f *fixture) keys(s *slice, in uint32) *dataplane.Pair {
	f.Helper()
	key, err := esp.NewKey(esp.AES256GCM, bytes.Repeat([]byte{7}, 36))
	f.ok(err)
	p, err := f.newPair(s, mka.Keys{SPIIn: in, SPIOut: 300, In: key, Out: key})
	f.ok(err)
	return p
}

func (f *fixture) keySlice(s *slice) {
	f.Helper()
	s.pair, s.up = f.keys(s, s.grant.SPI), true
	f.changes.slice(s)
}

// crowd is so many sessions whose egress this node is, and of which it has slice 0.
func (f *fixture) crowd(sessions int) (view *protocol.View) {
	f.Helper()
	view = &protocol.View{}
	for n := range sessions {
		id, leases := numbered(n)
		s := f.holdSlice(sliceKey{id, 0, 1}, leases)
		f.keySlice(s)
		view.Rules = append(view.Rules, protocol.RuleRow{Session: id, Client: fmt.Sprint("client", n), Prefixes: network("10.20.0.0/24")})
		view.Routes = append(view.Routes, protocol.RouteRow{Session: id, Leases: leases, Mode: registry.ModeAuto, Slices: []protocol.RouteSlice{
			{Number: 0, Epoch: 1, Agent: own, SPI: s.grant.SPI, Weight: 5},
			{Number: 1, Epoch: 1, Agent: identity.Index(2 + n%2), SPI: esp.MakeSPI(2, uint32(n)+1), Weight: 5},
		}})
	}
	f.hear(&protocol.Node{View: view})
	return view
}

// ruling is a node of a mesh whose arbiter says what clients may reach.
func ruling(t testing.TB) *fixture {
	f := newFixture(t)
	f.obey(5)
	v := f.ruled()
	v.Changes = true
	f.hear(&protocol.Node{View: v})
	return f
}
