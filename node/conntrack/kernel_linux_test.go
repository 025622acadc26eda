package conntrack

import (
	"errors"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
)

// space is another network namespace that lives as long as the test.
func space(t *testing.T) (pid, enter string) {
	t.Helper()
	sleeper := exec.Command("sleep", "600")
	sleeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	pid = strconv.Itoa(sleeper.Process.Pid)
	return pid, "nsenter -t " + pid + " -n "
}

func sh(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// TestFlowsComeAndGo: the kernel of a router that masquerades tells of a ping;
// forgotten and made again it works on, under the identifier that it was given.
func TestFlowsComeAndGo(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	pid1, client := space(t)
	pid2, server := space(t)
	sh(t, `ip link set lo up
		ip link add c type veth peer name r; ip link set r netns `+pid1+`; ip link set c up
		ip link add s type veth peer name r; ip link set r netns `+pid2+`; ip link set s up
		ip address add 10.77.0.1/16 dev c; ip address add 10.20.0.1/24 dev s
		sysctl -qw net.ipv4.ip_forward=1
		nft 'add table t; add chain t n { type nat hook postrouting priority 100; }; add rule t n oifname s snat to 10.20.0.1'
		`+client+`ip link set r up; `+client+`ip address add 10.77.0.9/16 dev r; `+client+`ip route add default via 10.77.0.1
		`+server+`ip link set r up; `+server+`ip address add 10.20.0.2/24 dev r; `+server+`ip link set lo up`)
	pool := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	events, err := Listen(pool)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	kernel, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	ping := func() { t.Helper(); sh(t, client+"ping -e 77 -c 1 -W 5 10.20.0.2") }
	only := func() Flow {
		t.Helper()
		flows, err := kernel.Flows(pool)
		if err != nil || len(flows) != 1 {
			t.Fatalf("flows %+v, %v", flows, err)
		}
		return flows[0]
	}
	ping()
	heard := hear(t, events, func(e Event) bool { return !e.Gone })
	f := only()
	if f.Source != netip.MustParseAddrPort("10.77.0.9:77") || f.NAT.Addr() != netip.MustParseAddr("10.20.0.1") || f.Key != heard.Key {
		t.Errorf("listed %+v, heard %+v", f, heard)
	}

	// Under another identifier, which the kernel would not choose itself.
	f.NAT = netip.AddrPortFrom(f.NAT.Addr(), 4242)
	if err := errors.Join(kernel.Delete(f.Key), kernel.Delete(f.Key)); err != nil {
		t.Fatal(err)
	}
	hear(t, events, func(e Event) bool { return e.Gone && e.Key == f.Key })
	f.Timeout = 500
	if err := errors.Join(kernel.Put(f), kernel.Put(f)); err != nil {
		t.Fatal(err)
	}
	if got := only(); got.NAT != f.NAT || got.Timeout < 490 {
		t.Fatalf("made %+v, is %+v", f, got)
	}
	ping()
	if got := only(); got.NAT != f.NAT || !got.Replied || got.Timeout > 490 {
		t.Errorf("after a ping the flow is %+v", got)
	}
}

// hear waits for one event.
func hear(t *testing.T, events *Events, wanted func(Event) bool) (found Event) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for ok := false; !ok; {
		if time.Now().After(end) {
			t.Fatal("never heard")
		}
		err := events.Next(end, func(e Event) {
			if !ok && wanted(e) {
				found, ok = e, true
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}
