package host

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPatience: what is undone at once, again and again, is put back once a
// second only, until it is left alone.
func TestPatience(t *testing.T) {
	var p patience
	at := time.Unix(1000, 0)
	put := 0
	for range 10 * 50 { // ten seconds, undone within 20 ms
		if p.allows(at) {
			p.spend(at)
			put++
		}
		at = at.Add(20 * time.Millisecond)
	}
	if put < fightMost || put > fightMost+11 || !p.fought() {
		t.Errorf("put back %d times in ten seconds, fought %v", put, p.fought())
	}
	at = at.Add(fightSoon + time.Second)
	p.settle(at)
	if p.fought() || !p.allows(at) {
		t.Error("a fight that is over is not forgotten")
	}
	// Somebody who comes every three seconds is no fight: it is put back at once.
	for range 100 {
		if !p.allows(at) {
			t.Fatal("it is not put back")
		}
		p.spend(at)
		at = at.Add(3 * time.Second)
	}
}

// TestFightIsNamed: somebody keeps deleting the rule; the traffic stays shut in, the
// fault is named with a next command, and goes when he stops.
func TestFightIsNamed(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	c := upClient(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = deleteRule(*tableRule(unix.AF_INET, DefaultTable, DefaultMark)) // mostly gone already
		}
	}()
	eventually(t, "the fight is named", func() error {
		if all := strings.Join(c.Faults(), "\n"); !strings.Contains(all, "rule of meshcrypt again and again") || !strings.Contains(all, "ManageForeignRoutingPolicyRules=no") {
			return errors.New("faults " + all)
		}
		return nil
	})
	before := c.PutBack()["rule"]
	time.AfterFunc(2*time.Second, stop)
	<-ended
	if n := c.PutBack()["rule"] - before; n > 4 {
		t.Errorf("put back %d times in two seconds of a fight", n)
	}
	eventually(t, "the fault goes", func() error {
		if len(c.Faults()) > 0 || !strings.Contains(run(t, "ip rule"), "16484") {
			return errors.New(strings.Join(c.Faults(), "\n"))
		}
		return nil
	})
}

// TestFaultsOfNode: what is not ours to mend is named, each with the next command,
// and no more when it is over.
func TestFaultsOfNode(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	lost := make(chan error, 1)
	config := nodeConfig(t.TempDir())
	config.Lost = func(err error) { lost <- err }
	n := prepareNode(t, config)
	openTUN(t)
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ do, undo, words string }{
		{"nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 10; policy drop; }'", "nft delete table inet fw", "chain f of the table inet fw"},
		{"ip address del 10.1.0.1/24 dev inside0", "ip address add 10.1.0.1/24 dev inside0", "ip address add 10.1.0.1"},
		{"ip link set inside0 down", "ip link set inside0 up", "ip link set inside0 up"},
	} {
		run(t, c.do)
		eventually(t, c.do, func() error {
			if all := strings.Join(n.Faults(), "\n"); !strings.Contains(all, c.words) {
				return errors.New("faults " + all)
			}
			return nil
		})
		run(t, c.undo)
		eventually(t, c.undo, func() error {
			if all := n.Faults(); len(all) > 0 {
				return errors.New(strings.Join(all, "\n"))
			}
			return nil
		})
	}
	run(t, "ip link del tun0")
	if err := <-lost; !errors.Is(err, ErrNoDevice) {
		t.Errorf("without the TUN: %v", err)
	}
	eventually(t, "the lost TUN is named", func() error {
		if all := strings.Join(n.Faults(), "\n"); !strings.Contains(all, "tun0 is gone") {
			return errors.New("faults " + all)
		}
		return nil
	})
	if err := n.HoldAddress(netip.MustParseAddr("10.1.0.100")); !errors.Is(err, ErrNoDevice) {
		t.Errorf("an address on a TUN that is gone: %v", err)
	}
}

// TestFaultsOfClient: a rule of other software that leads elsewhere what is for the
// tunnel is named, and what it leads is dropped.
func TestFaultsOfClient(t *testing.T) {
	if !isolate(t) {
		return
	}
	outside(t)
	c := upClient(t)
	run(t, "ip rule add pref 100 lookup 52; ip route add 10.20.0.0/16 via 198.51.100.2 table 52")
	eventually(t, "the other way is named", func() error {
		if all := strings.Join(c.Faults(), "\n"); !strings.Contains(all, "10.20.0.0/16 are led to outside0") {
			return errors.New("faults " + all)
		}
		return nil
	})
	shut(t, "led elsewhere", pingPushed)
}

// TestLostMessages: of a burst that overruns the socket's buffer nobody knows what was
// in it, so the whole is looked at.
func TestLostMessages(t *testing.T) {
	if !isolate(t) {
		return
	}
	messages, err := openMessages(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Close()
	run(t, `for i in $(seq 1 4000); do echo "route add blackhole 192.0.$((i / 250)).$((i % 250))/32"; done | ip -batch -`)
	s := newStand("tun0", nil, nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.listen(messages, func(syscall.NetlinkMessage) bool { return false })
	}()
	select {
	case <-s.watch.heard:
	case <-time.After(5 * time.Second):
		t.Error("nobody looks after messages were lost")
	}
	if err := messages.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
}
