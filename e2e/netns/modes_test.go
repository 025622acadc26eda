//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestModes: in every mode a transfer each way arrives whole, over the slices
// that the mode says and by the shares that it says, and a flow of UDP stays
// with one agent unless it was asked otherwise.
func TestModes(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	const near = 0.05
	for _, c := range []struct {
		args     []string
		up, down func(map[uint8]float64) error
		udp      int // agents that a flow of UDP takes
	}{
		{[]string{"burst"}, nil, nil, 1}, // by weight: TestSlicedTransfer
		{[]string{"burst", "--slice-shares", "equal", "--spray-udp"}, equal(near), equal(near), 3},
		{[]string{"packet"}, equal(0.02), equal(near), 1},
		{[]string{"flowlet"}, nil, nil, 1},
		{[]string{"pin"}, single, single, 1},
	} {
		m.t.Logf("mode %v", c.args)
		m.reconnect(append([]string{"--slice-mode"}, c.args...)...)
		m.measured(3)
		m.spreads(false, c.up)
		m.spreads(true, c.down)
		m.oneOf(calmly, "UDP", func() error {
			before := m.slices(3)
			shares := m.reported(before, m.flowOfUDP(3000), false)
			if got := carriers(shares); got != c.udp {
				return fmt.Errorf("one flow took %d slices, not %d: %s", got, c.udp, percent(shares))
			}
			return nil
		})
	}
}

// calmly is how often a test of shares is tried: while this machine stands still
// nodes look dead, and their slices' packets go over others, as they should.
const calmly = 3

// spreads moves bytes one way, which must arrive, and wants these shares.
func (m *mesh) spreads(down bool, want func(map[uint8]float64) error) {
	m.Helper()
	m.oneOf(calmly, fmt.Sprintf("down %v", down), func() error {
		before := m.slices(3)
		r := m.transfer(lab.Plan{Bytes: 60_000_000, Down: down}).Wait(within(time.Minute))
		if err := r.Check(); err != nil {
			m.t.Errorf("down %v: %v", down, err)
		}
		shares := m.reported(before, r.Bytes, down)
		m.t.Logf("down %v: shares %s; %v", down, percent(shares), r)
		if want == nil {
			return nil
		}
		return want(shares)
	})
}

// oneOf wants one try of so many to succeed, and says why others did not.
func (m *mesh) oneOf(tries int, what string, try func() error) {
	m.Helper()
	for range tries {
		err := try()
		if err == nil {
			return
		}
		m.t.Logf("%s: %v", what, err)
	}
	m.t.Errorf("%s: none of %d tries did", what, tries)
}

// TestKillInEachMode: whoever is killed, no connection breaks, however packets
// are spread.
func TestKillInEachMode(t *testing.T) {
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	for i, mode := range []string{"packet", "flowlet", "pin", "auto"} {
		m.reconnect("--slice-mode", mode)
		if err := lab.Again(m.t, func() error {
			_, err := m.killOnce(i, 3, agentStall, (*mesh).mereAgent)
			return err
		}); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// reconnect ends the client's session, if there is one, and opens another.
func (m *mesh) reconnect(args ...string) {
	m.Helper()
	if p := m.client.process; p != nil && !p.Terminate(10*time.Second) {
		m.Fatalf("the client does not end: %s", p.Tail(5))
	}
	m.connect(args...)
}

// measured waits until the client knows the path of every slice, for before
// that not all of them carry something.
func (m *mesh) measured(count int) {
	m.Helper()
	m.slices(count)
	m.Until("the paths are measured", 20*time.Second, func() error {
		s, err := m.session()
		for _, slice := range s.Slices {
			if slice.Delay == 0 {
				err = errors.Join(err, fmt.Errorf("the path of slice %d is not", slice.Number))
			}
		}
		return err
	})
}

// reported waits until every agent has told of what it carried, so many bytes
// at least, and gives the shares of the slices.
func (m *mesh) reported(before control.Session, least uint64, down bool) (shares map[uint8]float64) {
	m.Helper()
	var last uint64
	time.Sleep(2 * time.Second) // agents report every 2 s
	m.Until("the agents report what they carried", 20*time.Second, func() error {
		after, err := m.session()
		if err != nil {
			return err
		}
		var bytes uint64
		shares, bytes = sharesOf(before, after, down)
		if fresh := bytes - last; bytes < least || fresh > 0 {
			last = bytes
			time.Sleep(2 * time.Second)
			return fmt.Errorf("%d of %d bytes, %d of them new", bytes, least, fresh)
		}
		return nil
	})
	return shares
}

// flowOfUDP sends so many datagrams of one flow upwards, and gives their bytes.
func (m *mesh) flowOfUDP(count int) (bytes uint64) {
	m.Helper()
	payload := make([]byte, 1000)
	if err := m.client.Do(func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(destination, "9"))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range count {
			// Refusals come back from the destination, where nobody listens.
			if n, err := conn.Write(payload); err == nil {
				bytes += uint64(n)
			}
			time.Sleep(200 * time.Microsecond)
		}
		return nil
	}); err != nil {
		m.Fatalf("datagrams: %v", err)
	}
	return bytes
}

// equal wants 1/N each.
func equal(within float64) func(map[uint8]float64) error {
	return func(shares map[uint8]float64) error {
		for number, share := range shares {
			if math.Abs(share*float64(len(shares))-1) > within {
				return fmt.Errorf("slice %d carried %.4f, not 1/%d", number, share, len(shares))
			}
		}
		return nil
	}
}

// single wants one slice to carry everything.
func single(shares map[uint8]float64) error {
	if n := carriers(shares); n != 1 {
		return fmt.Errorf("%d slices carried one flow", n)
	}
	return nil
}

// carriers is how many slices carried more than what else is on the way.
func carriers(shares map[uint8]float64) (n int) {
	for _, share := range shares {
		if share > 0.03 {
			n++
		}
	}
	return n
}

func percent(shares map[uint8]float64) (text string) {
	for _, number := range slices.Sorted(maps.Keys(shares)) {
		text += fmt.Sprintf("%d:%.1f%% ", number, 100*shares[number])
	}
	return text
}
