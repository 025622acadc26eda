package node

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// TestProcessStackCountsItsDrops: what a stack in the process does not take is in
// the status of its node, as everything dropped (I8).
func TestProcessStackCountsItsDrops(t *testing.T) {
	p, err := openProcessStack(datadir.Node{
		Inside: netip.MustParseAddr("127.0.0.1"), Outer: netip.MustParseAddrPort("127.0.0.1:6484"),
		Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")},
	})
	if err != nil {
		t.Fatal(err)
	}
	noPacket := make([]byte, tun.HeaderLen+20)
	if err := p.device().Queues()[0].Write([][]byte{noPacket}); err != nil {
		t.Fatal(err)
	}
	if got := p.dropped(); got["stack-malformed"] != 1 || got["stack-queue"] != 0 {
		t.Errorf("dropped %v", got)
	}
	if err := p.device().Close(); err != nil {
		t.Error(err)
	}
	if err := p.close(false); err != nil {
		t.Error(err)
	}
}
