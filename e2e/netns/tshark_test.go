//go:build e2e

package netns

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// TestTsharkDecrypts: the packets on the wire are RFC 4303 ESP in RFC 3948 UDP
// with RFC 4106 sealing, as an implementation that is not ours reads them, and
// nothing can be read without the keys that only this build hands out.
func TestTsharkDecrypts(t *testing.T) {
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
	m.connect()
	for _, down := range []bool{true, false} {
		if err := m.transfer(lab.Plan{Bytes: 3_000_000, Down: down}).Wait(within(30 * time.Second)).Check(); err != nil {
			t.Error(err)
		}
	}
	file := capture()
	all := m.tshark(file, nil, "esp")
	blind := m.tshark(file, nil, "tcp.payload contains \"meshcrypt-canary\"")
	sa := securityAssociations(t, keys)
	inner := m.tshark(file, sa, "esp && ip.addr == "+destination)
	clear := m.tshark(file, sa, "tcp.payload contains \"meshcrypt-canary\"")
	t.Logf("%d keys; %d ESP packets, %d read as packets of the destination, %d of them with the canary; %d without keys",
		len(sa)/2, all, inner, clear, blind)
	if all < 4000 || inner < all*9/10 || clear < 4000 {
		t.Errorf("tshark did not decrypt the traffic")
	}
	if blind != 0 {
		t.Errorf("I4: %d packets were readable without keys", blind)
	}
}

// capture records an interface of the router until the returned function is called.
func (m *mesh) capture(device string) (end func() string) {
	m.Helper()
	file := m.File("capture-" + device + ".pcap")
	// Not tcpdump: it wants to change its user, which a user namespace denies.
	p := m.wan.Start("dumpcap-"+device, nil, "dumpcap", "-i", device, "-f", "udp port 6484", "-B", "64", "-w", file)
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

// tshark counts the packets of a capture that a filter shows.
func (m *mesh) tshark(file string, more []string, filter string) (packets int) {
	m.Helper()
	args := append([]string{"tshark", "-r", file, "-d", "udp.port==6484,udpencap", "-o", "esp.enable_encryption_decode:TRUE"}, more...)
	r := m.wan.Try([]string{"HOME=" + m.Dir}, append(args, "-Y", filter, "-T", "fields", "-e", "frame.number")...)
	if r.Code != 0 {
		m.Fatalf("tshark: exit %d: %s", r.Code, r.Stderr)
	}
	return strings.Count(r.Out, "\n")
}

// securityAssociations are tshark's options for the keys of a key log, whose
// lines are an SPI and the key with its salt, in hex.
func securityAssociations(t *testing.T, path string) (options []string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 {
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
