package host

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

func TestExitTo(t *testing.T) {
	if !isolate(t) {
		return
	}
	to := netip.MustParseAddr("203.0.113.1")
	if e := ExitTo(to, 0); e.Leads() {
		t.Errorf("without a network: %+v", e)
	}
	run(t, `ip link add near type veth peer name far; ip link set near up; ip link set far up
		ip address add 192.0.2.1/24 dev near; ip route add default via 192.0.2.254
		ip rule add fwmark 7 table 7; ip route add blackhole default table 7`)
	e := ExitTo(to, 0)
	if !e.Leads() || e.Source != netip.MustParseAddr("192.0.2.1") || e.Next != netip.MustParseAddr("192.0.2.254") {
		t.Errorf("the way is %+v", e)
	}
	if again := ExitTo(to, 0); again != e {
		t.Errorf("%+v, then %+v", e, again)
	}
	if e := ExitTo(to, 7); e.Leads() {
		t.Errorf("marked: %+v", e)
	}
}

// TestWatchNetwork: a burst of changes is one, and the watch ends with its context.
func TestWatchNetwork(t *testing.T) {
	if !isolate(t) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	changes, ended := make(chan struct{}, 1000), make(chan error)
	go func() { ended <- WatchNetwork(ctx, func() { changes <- struct{}{} }) }()
	run(t, `ip link add near type veth peer name far; ip link set near up; ip link set far up`)
	for len(changes) == 0 { // the watch may only just begin
		run(t, "ip address add 192.0.2.200/24 dev near; ip address del 192.0.2.200/24 dev near; sleep 0.2")
	}
	for len(changes) > 0 {
		<-changes
	}
	begin := time.Now()
	run(t, `for i in $(seq 1 50); do ip address add 192.0.2.$i/24 dev near; done`)
	took := time.Since(begin)
	<-changes
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n, most := len(changes), int((took+time.Second)/SettleTime); n > most {
		t.Errorf("%d more calls in %v for one burst", n, took)
	}
}
