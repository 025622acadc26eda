package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testJournal(t *testing.T, path string) *journal {
	t.Helper()
	j, err := openJournal(path, roleNode, 254)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJournalRestores(t *testing.T) {
	if !isolate(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "host.json")
	ttl, ports, tos := "ipv4/ip_default_ttl", "ipv4/tcp_sack", "ipv4/tcp_timestamps"
	sysctl(t, ttl+"=64", ports+"=1", tos+"=1")
	set := []setting{{name: ttl, value: "70"}, {name: ports, value: "0"}, {name: tos, value: "1"}}
	if err := testJournal(t, path).change(set); err != nil {
		t.Fatal(err)
	}
	// A second process after a crash keeps the first one's originals.
	j := testJournal(t, path)
	set[0].value = "80"
	if err := j.change(set); err != nil {
		t.Fatal(err)
	}
	sysctl(t, ttl+"=80", ports+"=0", tos+"=1")
	run(t, "sysctl -qw net.ipv4.tcp_timestamps=0") // not ours
	run(t, "sysctl -qw net.ipv4.tcp_sack=1")       // ours, put back by someone else
	if err := j.end(nil); err != nil {
		t.Fatal(err)
	}
	sysctl(t, ttl+"=64", ports+"=1", tos+"=0")
}

func TestJournalLeavesForeignChanges(t *testing.T) {
	if !isolate(t) {
		return
	}
	j := testJournal(t, filepath.Join(t.TempDir(), "host.json"))
	if err := j.change([]setting{{name: "ipv4/ip_default_ttl", value: "70"}}); err != nil {
		t.Fatal(err)
	}
	run(t, "sysctl -qw net.ipv4.ip_default_ttl=99")
	if err := j.end(nil); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv4/ip_default_ttl=99")
}

func TestJournalOfEarlierBootIsVoid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	old := `{"schema":"` + schema + `","boot":"another","role":"node","table":254,` +
		`"changed":[{"name":"ipv4/ip_default_ttl","original":"1","set":"64"}]}`
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	if j := testJournal(t, path); len(j.state.Changed) != 0 {
		t.Errorf("took over %+v", j.state.Changed)
	}
}

func TestFailedRemovalKeepsJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	j, cause := testJournal(t, path), errors.New("no luck")
	if err := j.end(cause); !errors.Is(err, cause) {
		t.Errorf("end returned %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the next Restore has no file: %v", err)
	}
}

// A start takes over what a stop on a full disk left, and needs no room for it.
func TestJournalIsNotWrittenForNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	testJournal(t, path).state.Changed = nil
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	j := testJournal(t, path)
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same content was written again (%v)", err)
	}
	j.state.Changed = []saved{{"ipv4/ip_default_ttl", "64", "70"}}
	if err := j.store(); err != nil {
		t.Fatal(err)
	}
	if state, err := readJournal(path); err != nil || len(state.Changed) != 1 {
		t.Errorf("the file holds %+v (%v)", state, err)
	}
}

func TestJournalRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "host.json")
	for name, content := range map[string]string{
		"no JSON":      "{",
		"schema":       `{"schema":"x/v9","role":"node"}`,
		"role":         `{"schema":"` + schema + `","role":"x"}`,
		"path outside": `{"schema":"` + schema + `","role":"node","changed":[{"name":"../../kernel/x"}]}`,
		"other role":   `{"schema":"` + schema + `","role":"client"}`,
		"too large":    strings.Repeat(" ", maxJournal+1),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openJournal(path, roleNode, 254); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	j := &journal{path: path}
	j.state.Changed = make([]saved, maxSettings+1)
	if err := j.change(nil); !errors.Is(err, ErrConfig) {
		t.Errorf("more than %d sysctls: %v", maxSettings, err)
	}
}

// The state file is ours, but may be damaged; it never panics (I11).
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"schema":"` + schema + `","role":"node","changed":[{"name":"ipv4/x"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		state, err := parseJournal(b)
		if err != nil {
			return
		}
		for _, s := range state.Changed {
			if rel := filepath.Join(sysctlRoot, s.Name); !strings.HasPrefix(rel, sysctlRoot) {
				t.Errorf("%q leads out of %s", s.Name, sysctlRoot)
			}
		}
	})
}

// Kernels before force_forwarding have one switch for IPv6: the host keeps its
// default route by accept_ra=2, and every interface is put back as it was.
func TestIPv6WithoutForceForwarding(t *testing.T) {
	if !isolate(t) {
		return
	}
	peer(t)
	run(t, `sysctl -qw net.ipv6.conf.inside0.accept_ra=1 net.ipv6.conf.outside0.accept_ra=0 \
		net.ipv6.conf.outside0.forwarding=1`)
	interfaces, err := ipv6Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	settings := ipv6Router([]string{"inside0"}, false, interfaces)
	if len(settings) == 0 || settings[0] != ipv6Conf("inside0", "accept_ra", "2") {
		t.Errorf("settings %v: accept_ra of inside0 must come first", settings)
	}
	j := testJournal(t, filepath.Join(t.TempDir(), "host.json"))
	if err := j.change(settings); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv6/conf/all/forwarding=1", "ipv6/conf/inside0/forwarding=1",
		"ipv6/conf/inside0/accept_ra=2", "ipv6/conf/outside0/accept_ra=0")
	if err := j.end(nil); err != nil {
		t.Fatal(err)
	}
	sysctl(t, "ipv6/conf/all/forwarding=0", "ipv6/conf/inside0/forwarding=0",
		"ipv6/conf/inside0/accept_ra=1", "ipv6/conf/outside0/forwarding=1")
}

func TestIPv6WithForceForwarding(t *testing.T) {
	settings := ipv6Router([]string{"a", "b"}, true, map[string]ipv6State{"a": {acceptRA: "1"}})
	want := []setting{ipv6Conf("a", "force_forwarding", "1"), ipv6Conf("b", "force_forwarding", "1")}
	if fmt.Sprint(settings) != fmt.Sprint(want) {
		t.Errorf("settings %v, want %v", settings, want)
	}
}

func TestNormalize(t *testing.T) {
	got, err := normalize("pool", 3, []netip.Prefix{
		netip.MustParsePrefix("10.2.3.4/8"), netip.MustParsePrefix("fd00::1/64"),
		netip.MustParsePrefix("10.0.0.0/8"),
	})
	if err != nil || fmt.Sprint(got) != "[10.0.0.0/8 fd00::/64]" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnnounceFrame(t *testing.T) {
	got := announceFrame(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.1.0.100"))
	want := "0001080006040001020000000001" + "0a010064" + "000000000000" + "0a010064"
	if fmt.Sprintf("%x", got) != want {
		t.Errorf("%x, want %s", got, want)
	}
}

func TestErrorsNameTheNextCommand(t *testing.T) {
	err := failed(os.NewSyscallError("netlink", unix.EPERM), "see `ip route`", "add the route to %d", 1)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("not permitted: %v", err)
	}
	err = failed(unix.EINVAL, "see `ip route`", "add the route to %d", 1)
	if !strings.HasSuffix(err.Error(), "see `ip route`") {
		t.Errorf("other cause: %v", err)
	}
}
