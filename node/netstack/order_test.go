package netstack

import (
	"crypto/rand"
	"io"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/meshcrypt/meshcrypt/node/order"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// fewAgain is what a busy machine's late timers may cost; without the order it
// is ten thousand.
const fewAgain = 4000

// skewed carries what a stack sends over two paths by turns, one of which is
// slower: what a sprayed flow meets.
func (p *pair) skewed(from, to *Stack, skew time.Duration) {
	type late struct {
		packet []byte
		due    time.Time
	}
	into := order.Wrap(to).Queues()[0]
	slow := make(chan late, 4096)
	defer close(slow)
	p.pumps.Go(func() {
		for l := range slow {
			<-time.After(time.Until(l.due))
			into.Write([][]byte{l.packet[:tun.HeaderLen], l.packet[tun.HeaderLen:]})
		}
	})
	b := make([]byte, tun.HeaderLen+tun.MaxPacket)
	for i := 0; ; i++ {
		n, err := from.Queues()[0].Read(b)
		if err != nil {
			return
		}
		packet := append([]byte(nil), b[:n]...)
		if i%2 == 1 {
			slow <- late{packet, time.Now().Add(skew)}
		} else if err := into.Write([][]byte{packet[:tun.HeaderLen], packet[tun.HeaderLen:]}); err != nil {
			p.Error(err)
		}
	}
}

// TestSprayedFlowIsInOrder: runs that take paths of unequal delay by turns reach
// the stack in order, so the sender has nothing to send again.
func TestSprayedFlowIsInOrder(t *testing.T) {
	const size = 16 << 20
	p := &pair{T: t}
	p.a, p.b = p.stack(leaseA[:], "10.20.0.0/24"), p.stack(leaseB[:], "10.77.0.0/16")
	rack := tcpip.TCPRACKLossDetection // as the kernel of a destination has it
	if err := p.b.tune(&rack); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.end)
	p.pumps.Go(func() { p.pump(p.a, p.b) })
	p.pumps.Go(func() { p.skewed(p.b, p.a, 4*time.Millisecond) })
	l := p.listen(netip.AddrPortFrom(leaseB[0], 80))
	go func() {
		if c, err := l.Accept(); err == nil {
			io.CopyN(c, rand.Reader, size)
			c.Close()
		}
	}()
	c, err := p.a.DialTCP(t.Context(), netip.AddrPortFrom(leaseB[0], 80))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	n, err := io.Copy(io.Discard, c)
	took := time.Since(begin)
	again := p.b.stack.Stats().TCP.Retransmits.Value()
	t.Logf("%d bytes in %v, %.0f Mbit/s, %d segments sent again", n, took.Round(time.Millisecond), float64(n)*8/1e6/took.Seconds(), again)
	if err != nil || n != size || again > fewAgain {
		t.Errorf("%d bytes, %v, %d segments sent again", n, err, again)
	}
}
