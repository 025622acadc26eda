//go:build e2e

package netns

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// tsharkTime bounds one reading of a capture; a busy machine takes its time.
const tsharkTime = 3 * time.Minute

// TestTsharkDecrypts: the packets on the wire are RFC 4303 ESP in RFC 3948 UDP
// with RFC 4106 sealing, as an implementation that is not ours reads them, and
// nothing can be read without the keys that only this build hands out.
func TestTsharkDecrypts(t *testing.T) {
	t.Parallel()
	for _, suite := range []esp.Suite{esp.AES256GCM, esp.AES128GCM} {
		t.Run(suite.String(), func(t *testing.T) {
			c := captureTransfers(t, suite)
			sa := securityAssociations(t, c.keys)
			r := c.tshark(c.file, sa)
			t.Logf("%d keys; %d ESP packets, %d read as packets of the destination, %d of them with the canary", len(sa)/2, r.all, r.inner, r.canaries)
			if r.all < 4000 || r.inner < r.all*9/10 || r.canaries < 4000 {
				t.Errorf("tshark did not decrypt the traffic")
			}
		})
	}
}

// TestScapyDecrypts is the same for ChaCha20-Poly1305 (RFC 7634), which this tshark
// does not know.
func TestScapyDecrypts(t *testing.T) {
	t.Parallel()
	c := captureTransfers(t, esp.ChaCha20Poly1305)
	script, err := filepath.Abs("testdata/decrypt.py")
	if err != nil {
		t.Fatal(err)
	}
	r := c.wan.Try([]string{"HOME=" + c.Dir}, "/usr/bin/python3", script, c.file, c.keys, lab.Canary)
	var all, opened, canaries int
	if n, err := fmt.Sscan(r.Out, &all, &opened, &canaries); n != 3 || r.Code != 0 {
		t.Fatalf("scapy: exit %d, %q, %v\n%s", r.Code, r.Out, err, r.Stderr)
	}
	t.Logf("%d ESP packets, %d opened, %d of them with the canary", all, opened, canaries)
	if all < 4000 || opened < all*9/10 || canaries < 4000 {
		t.Errorf("scapy did not decrypt the traffic")
	}
}

// recorded is a capture of transfers under one suite, and the keys to it.
type recorded struct {
	*mesh
	file, keys string
}

// captureTransfers downloads and uploads under a suite that the client asks for.
func captureTransfers(t *testing.T, suite esp.Suite) recorded {
	t.Helper()
	m := newMesh(t, 3)
	keys := m.File("keys")
	m.env = append(m.env, "MESHCRYPT_KEYLOG="+keys)
	for _, h := range append(m.nodes, m.client) {
		// A capture on veth shows whole trains otherwise, which are no packets.
		h.Sh("ethtool -K out tx-udp-segmentation off gso off tso off")
	}
	m.wan.Sh("for d in client n1 n2 n3; do ethtool -K $d gro off tx-udp-segmentation off; done")
	m.up()
	capture := m.capture("client")
	m.connect("--suite", suite.String())
	if s, err := m.session(); err != nil || s.Suite != suite.String() {
		t.Errorf("the session uses %q: %v", s.Suite, err)
	}
	for _, down := range []bool{true, false} {
		if err := m.transfer(lab.Plan{Bytes: 3_000_000, Down: down}).Wait(within(30 * time.Second)).Check(); err != nil {
			t.Error(err)
		}
	}
	file := capture()
	if blind := m.tshark(file, nil); blind.inner+blind.canaries != 0 {
		t.Errorf("I4: %d packets were readable without keys", blind.inner+blind.canaries)
	}
	return recorded{m, file, keys}
}

// capture records an interface of the router until the returned function is called.
func (m *mesh) capture(device string) (end func() string) {
	m.Helper()
	return m.captureOn(m.wan, device, "udp port 6484")
}

// captureOn records what passes an interface of a space and a filter.
func (m *mesh) captureOn(space *lab.Space, device, filter string) (end func() string) {
	m.Helper()
	file := m.File("capture-" + device + ".pcap")
	// Not tcpdump: it wants to change its user, which a user namespace denies.
	p := space.Start("dumpcap-"+device, nil, "dumpcap", "-i", device, "-f", filter, "-B", "64", "-w", file)
	m.Until("dumpcap listens", 10*time.Second, func() error {
		if !strings.Contains(p.Tail(5), "File: ") {
			return fmt.Errorf("%s", p.Tail(5))
		}
		return nil
	})
	return func() string {
		time.Sleep(500 * time.Millisecond)
		p.Signal(syscall.SIGINT)
		if _, ok := p.Wait(10 * time.Second); !ok {
			p.Kill()
		}
		return file
	}
}

// reading counts the ESP packets of a capture, and of all its packets those read as from
// or for the destination, and those whose text was read.
type reading struct{ all, inner, canaries int }

// tshark reads a capture once, for that is slow: with the options that name the keys, or
// with none.
func (m *mesh) tshark(file string, keys []string) (r reading) {
	m.Helper()
	args := append([]string{"tshark", "-r", file, "-d", "udp.port==6484,udpencap", "-o", "esp.enable_encryption_decode:TRUE"}, keys...)
	args = append(args, "-T", "fields", "-e", "esp.spi", "-e", "ip.addr", "-e", "tcp.payload")
	result := m.wan.TryFor(tsharkTime, []string{"HOME=" + m.Dir}, args...)
	if result.Code != 0 {
		m.Fatalf("tshark: exit %d: %s", result.Code, result.Stderr)
	}
	canary := hex.EncodeToString([]byte(lab.Canary))
	for line := range strings.Lines(result.Out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 3 {
			m.Fatalf("tshark: %d fields in a line", len(fields))
		}
		if fields[0] != "" {
			r.all++
		}
		if slices.Contains(strings.Split(fields[1], ","), destination) {
			r.inner++
		}
		if strings.Contains(fields[2], canary) {
			r.canaries++
		}
	}
	return r
}

// securityAssociations are tshark's options for the keys of a key log, whose
// lines are an SPI, the key with its salt, in hex, and the suite.
func securityAssociations(t *testing.T, path string) (options []string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			t.Fatalf("key log: %d fields in a line", len(fields))
		}
		spi, err := strconv.ParseUint(strings.TrimPrefix(fields[0], "0x"), 16, 32)
		if err != nil {
			t.Fatalf("key log: SPI %q", fields[0])
		}
		options = append(options, "-o", fmt.Sprintf(`uat:esp_sa:"IPv4","*","*","0x%08x","AES-GCM with 16 octet ICV [RFC4106]","0x%s","NULL",""`,
			spi, strings.TrimPrefix(fields[1], "0x")))
	}
	if len(options) == 0 {
		t.Fatal("the key log is empty")
	}
	return options
}
