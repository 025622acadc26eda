//go:build e2e

package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// TestESPAgainstScapy: what an implementation that is not ours seals, we open, and
// what we seal, it opens, for every suite, both families and many lengths; and
// neither opens a frame with one bit turned.
func TestESPAgainstScapy(t *testing.T) {
	other := startScapy(t)
	random := rand.New(rand.NewPCG(4106, 7634))
	for _, suite := range esp.Suites() {
		t.Run(suite.String(), func(t *testing.T) {
			for i := range 60 {
				p := newInterop(t, other, suite, random)
				packet := innerPacket(random, i%2 == 1, random.IntN(1400))
				p.theirs(packet, uint64(1+random.IntN(1<<30)))
				p.ours(packet)
			}
		})
	}
}

// scapy is the other implementation, asked line by line.
type scapy struct {
	t       *testing.T
	ask     io.Writer
	answers *bufio.Scanner
}

func startScapy(t *testing.T) *scapy {
	t.Helper()
	cmd := exec.Command("/usr/bin/python3", "testdata/esp.py")
	var talk bytes.Buffer
	cmd.Stderr = &talk
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("python3 with scapy (.ci/deps installs it): %v\n%s", err, talk.String())
		}
	})
	return &scapy{t, in, bufio.NewScanner(out)}
}

// interop is one key, held by us and by scapy.
type interop struct {
	*scapy
	suite esp.Suite
	key   []byte
	spi   uint32
	out   *esp.Outbound
	in    *esp.Inbound
}

func newInterop(t *testing.T, s *scapy, suite esp.Suite, random *rand.Rand) *interop {
	t.Helper()
	p := &interop{scapy: &scapy{t, s.ask, s.answers}, suite: suite, spi: 256 + random.Uint32N(1<<31)}
	for range suite.MaterialSize() {
		p.key = append(p.key, byte(random.Uint32()))
	}
	key, err := esp.NewKey(suite, p.key)
	if err != nil {
		t.Fatal(err)
	}
	var errOut, errIn error
	p.out, errOut = esp.NewOutbound(p.spi, key, esp.DefaultLimits(), nil)
	p.in, errIn = esp.NewInbound(p.spi, key, esp.DefaultLimits())
	if err := errors.Join(errOut, errIn); err != nil {
		t.Fatal(err)
	}
	return p
}

// ask has scapy seal or open; nil is its refusal.
func (p *interop) ask(verb string, counter uint64, packet []byte) []byte {
	p.t.Helper()
	fmt.Fprintf(p.scapy.ask, "%s %v %x %08x %d %x\n", verb, p.suite, p.key, p.spi, counter, packet)
	if !p.answers.Scan() {
		p.t.Fatal("scapy ended")
	}
	answer := strings.TrimSpace(p.answers.Text())
	if answer == "refused" {
		return nil
	}
	raw, err := hex.DecodeString(answer)
	if err != nil {
		p.t.Fatalf("scapy says %q", answer)
	}
	return raw
}

// theirs has scapy seal and us open.
func (p *interop) theirs(packet []byte, counter uint64) {
	p.t.Helper()
	frame := p.ask("seal", counter, packet)
	broken := bytes.Clone(frame)
	broken[len(frame)/2] ^= 1
	if _, _, _, err := p.in.Open(broken); !errors.Is(err, esp.ErrAuth) {
		p.t.Errorf("%d bytes sealed by scapy, a bit turned: %v", len(packet), err)
	}
	payload, next, _, err := p.in.Open(frame)
	if err != nil || !bytes.Equal(payload, packet) || next != nextHeader(packet) {
		p.t.Errorf("%d bytes sealed by scapy, opened by us: %d bytes, next header %d, %v", len(packet), len(payload), next, err)
	}
}

// ours has us seal and scapy open.
func (p *interop) ours(packet []byte) {
	p.t.Helper()
	counter, err := p.out.Reserve(1, len(packet))
	if err != nil {
		p.t.Fatal(err)
	}
	frame := make([]byte, esp.SealedLen(len(packet)))
	copy(frame[esp.PayloadOffset:], packet)
	frame = p.out.Seal(frame, len(packet), nextHeader(packet), counter)
	if got := p.ask("open", counter, frame); !bytes.Equal(got, packet) {
		p.t.Errorf("%d bytes sealed by us, opened by scapy: %x", len(packet), got)
	}
	frame[len(frame)/2] ^= 1
	if got := p.ask("open", counter, frame); got != nil {
		p.t.Errorf("%d bytes sealed by us, a bit turned: scapy opens it", len(packet))
	}
}

func nextHeader(packet []byte) byte {
	if packet[0]>>4 == 6 {
		return esp.NextIPv6
	}
	return esp.NextIPv4
}

// innerPacket is an UDP packet of n bytes that means nothing.
func innerPacket(random *rand.Rand, six bool, n int) []byte {
	udp := binary.BigEndian.AppendUint16([]byte{0x30, 0x39, 0x30, 0x39}, uint16(8+n))
	udp = append(udp, 0, 1)
	for range n {
		udp = append(udp, byte(random.Uint32()))
	}
	var header []byte
	if six {
		header = append([]byte{0x60, 0, 0, 0, byte(len(udp) >> 8), byte(len(udp)), 17, 64}, make([]byte, 32)...)
		header[8], header[23], header[24], header[39] = 0xfd, 1, 0xfd, 2
	} else {
		total := 20 + len(udp)
		header = []byte{0x45, 0, byte(total >> 8), byte(total), 0, 1, 0, 0, 64, 17, 0, 1, 10, 77, 0, 9, 10, 20, 0, 9}
	}
	return append(header, udp...)
}
