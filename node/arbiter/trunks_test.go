package arbiter

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// TestOldestTrunkMustGo: a gateway that opens one after the other has the newest of them,
// and takes none from another; those that have ended count no more.
func TestOldestTrunkMustGo(t *testing.T) {
	var open trunks
	a, b := identity.NodeID{1}, identity.NodeID{2}
	made := func(of identity.NodeID) *trunk.Trunk {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		tr := trunk.New(near)
		t.Cleanup(tr.Close)
		open.add(of, tr)
		return tr
	}
	other, gone, first, second := made(b), made(a), made(a), (*trunk.Trunk)(nil)
	open.remove(a, gone)
	if second = made(a); first.Over() {
		t.Fatal("there was room for both")
	}
	if third := made(a); !first.Over() || second.Over() || third.Over() || other.Over() {
		t.Errorf("first over: %t, second %t, third %t, the other node's %t", first.Over(), second.Over(), third.Over(), other.Over())
	}
}

// TestRemovedNodePassesNobodyOn, though its trunk is from before: of a member a stream reaches
// this port, and of one that was removed it ends with the trunk.
func TestRemovedNodePassesNobodyOn(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	near, far := net.Pipe()
	gateway, ended := trunk.New(near), make(chan struct{})
	go func() { defer close(ended); a.carry(t.Context(), far, n.node) }()
	go gateway.Run(nil)
	pass := func() (net.Conn, error) {
		return port.OpenRelay(gateway, port.RelayHeader{Client: netip.MustParseAddrPort("192.0.2.7:1"), ALPN: port.ALPNClient})
	}
	client, err := pass()
	f.ok(err)
	_, err = client.Write([]byte("no hello"))
	f.ok(err)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF || gateway.Over() {
		t.Fatalf("a member's: %v, the trunk is over: %t", err, gateway.Over())
	}
	f.commit(registry.Command{RemoveNode: &registry.RemoveNode{ID: n.node}})
	client, err = pass()
	f.ok(err)
	f.ok(client.SetReadDeadline(time.Now().Add(hangLimit)))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, trunk.ErrLost) {
		t.Errorf("a removed node's: %v", err)
	}
	gateway.Close()
	<-ended
}

// TestMemberFillsNoLog by words in its trunk that are none, one trunk after the other (I10);
// another's are told all the same.
func TestMemberFillsNoLog(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	var log bytes.Buffer
	a.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	say := func(of identity.NodeID, words int) {
		near, far := net.Pipe()
		gateway, ended := trunk.New(near), make(chan struct{})
		go func() { defer close(ended); a.carry(t.Context(), far, of) }()
		go gateway.Run(nil)
		for range words {
			s, err := gateway.Open([]byte("no word"))
			f.ok(err)
			f.ok(s.SetReadDeadline(time.Now().Add(hangLimit)))
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatalf("a bad word's stream: %v", err)
			}
		}
		gateway.Close()
		<-ended
	}
	loud, other := f.member(a, "n2", dataRoles).node, f.member(a, "n3", dataRoles).node
	for range 4 {
		say(loud, LinesFree)
	}
	if lines := strings.Count(log.String(), "relay refused"); lines != LinesFree {
		t.Errorf("%d lines, want %d", lines, LinesFree)
	}
	log.Reset()
	if say(other, 1); strings.Count(log.String(), "relay refused") != 1 || strings.Contains(log.String(), "times_not_said") {
		t.Errorf("another member's: %s", log.String())
	}
	f.now.Add(int64(5 * time.Second))
	log.Reset()
	if say(loud, 1); !strings.Contains(log.String(), "times_not_said=96") {
		t.Errorf("later: %s", log.String())
	}
}
