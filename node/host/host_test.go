package host

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// The tests stand in namespaces of their own (linktest.Isolate):
//
//	test                                   peer
//	tun0 (opened by the code)              10.1.0.2/24 inside0
//	inside0 10.1.0.1/24 fd01::1/64 ------- fd01::2/64 (veth)
//	outside0 198.51.100.1/24, default route via 198.51.100.2

func run(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// fails runs a command that must not succeed and returns what it said.
func fails(t testing.TB, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err == nil {
		t.Errorf("%s succeeded: %s", command, out)
	}
	return string(out)
}

func contains(t testing.TB, command, want string) {
	t.Helper()
	if out := run(t, command); !strings.Contains(out, want) {
		t.Errorf("%s: no %q in %q", command, want, out)
	}
}

func lacks(t testing.TB, command, unwanted string) {
	t.Helper()
	if out := run(t, command); strings.Contains(out, unwanted) {
		t.Errorf("%s: %q in %q", command, unwanted, out)
	}
}

// sysctl checks values given as name=value.
func sysctl(t testing.TB, want ...string) {
	t.Helper()
	for _, s := range want {
		name, value, _ := strings.Cut(s, "=")
		if got, err := readSysctl(name); err != nil || got != value {
			t.Errorf("net/%s is %q (%v), want %q", name, got, err, value)
		}
	}
}

// peer is the process whose network namespace is the other end of inside0.
func peer(t testing.TB) (enter string) {
	t.Helper()
	sleeper := exec.Command("sleep", "600")
	sleeper.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	})
	pid := strconv.Itoa(sleeper.Process.Pid)
	enter = "nsenter -t " + pid + " -n "
	// Until a new link's own address is known to be free, no neighbour is asked.
	const ready = "sysctl -qw net.ipv6.conf.default.accept_dad=0\n"
	run(t, ready+enter+ready+`ip link set lo up
		ip link add inside0 type veth peer name far0
		ip link set far0 netns `+pid+`
		ip link set inside0 up
		ip address add 10.1.0.1/24 dev inside0
		ip address add fd01::1/64 dev inside0 nodad
		ip link add outside0 type veth peer name outside1
		ip link set outside0 up
		ip link set outside1 up
		ip address add 198.51.100.1/24 dev outside0
		ip route add default via 198.51.100.2
		`+enter+`ip link set far0 name inside0
		`+enter+`ip link set inside0 up
		`+enter+`ip address add 10.1.0.2/24 dev inside0
		`+enter+`ip address add fd01::2/64 dev inside0 nodad
		`+enter+`ip link set lo up`)
	return enter
}

func nodeConfig(dir string) NodeConfig {
	return NodeConfig{
		TUN: "tun0", InsideInterface: "inside0", Port: 6484,
		Inside: netip.MustParseAddr("10.1.0.1"),
		Pool: []netip.Prefix{
			netip.MustParsePrefix("10.99.0.7/16"), netip.MustParsePrefix("fd99::/64"),
		},
		StateFile: filepath.Join(dir, "host.json"),
	}
}

func clientConfig(dir string) ClientConfig {
	return ClientConfig{
		TUN: "tun0", Mark: DefaultMark, Table: DefaultTable,
		Leases: []netip.Addr{netip.MustParseAddr("10.99.0.7"), netip.MustParseAddr("fd99::7")},
		Prefixes: []netip.Prefix{
			netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.20.0.0/16"),
			netip.MustParsePrefix("fd01::/32"),
		},
		StateFile: filepath.Join(dir, "host.json"),
	}
}

func openTUN(t testing.TB) tun.Device {
	t.Helper()
	d, err := tun.Open("tun0", 1, 1400)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// helperRole names the variable that makes TestHelperProcess the process to be killed.
const helperRole = "MESHCRYPT_TEST_HOST_ROLE"

// TestHelperProcess is a node or client that is up and never stops by itself.
func TestHelperProcess(t *testing.T) {
	dir := os.Getenv("MESHCRYPT_TEST_HOST_DIR")
	var up func() error
	switch os.Getenv(helperRole) {
	case "":
		return
	case "node":
		n, err := PrepareNode(nodeConfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		up = func() error {
			if err := n.Up(); err != nil {
				return err
			}
			return errors.Join(n.HoldAddress(netip.MustParseAddr("10.1.0.100")),
				n.HoldAddress(netip.MustParseAddr("fd01::100")))
		}
	case "client":
		c, err := PrepareClient(clientConfig(dir))
		if err != nil {
			t.Fatal(err)
		}
		up = c.Up
	}
	openTUN(t)
	if err := up(); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("ready\n")
	select {}
}

// killed starts the helper and returns a function that kills it.
func killed(t testing.TB, role, dir string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	helper := exec.Command(self, "-test.run=^TestHelperProcess$")
	helper.Env = append(os.Environ(), helperRole+"="+role, "MESHCRYPT_TEST_HOST_DIR="+dir)
	helper.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			return func() {
				_ = helper.Process.Kill()
				_ = helper.Wait()
			}
		}
		said.WriteString(lines.Text() + "\n")
	}
	_ = helper.Wait()
	t.Fatalf("the helper did not come up: %s", said.String())
	return nil
}

// isolate also lets the tests run side by side, each in its own namespaces.
func isolate(t *testing.T) bool {
	t.Helper()
	t.Parallel()
	return linktest.Isolate(t)
}
