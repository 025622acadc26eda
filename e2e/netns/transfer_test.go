//go:build e2e

package netns

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestLab: the lab's own eyes. It must see cleartext where there is some, or
// its silence elsewhere proves nothing.
func TestLab(t *testing.T) {
	w := lab.New(t, t.TempDir())
	a, b := w.Space("a"), w.Space("b")
	w.Wire(a, "to-b", b, "to-a")
	a.Sh("ip address add 10.0.0.1/24 dev to-b")
	b.Sh("ip address add 10.0.0.2/24 dev to-a")
	watch := b.Watch("to-a", []byte(lab.Canary), 6484)
	r := w.Transfer(a, b, "10.0.0.2", lab.Plan{Bytes: 1 << 20}).Wait(within(10 * time.Second))
	if err := r.Check(); err != nil || r.Bytes != 1<<20 {
		t.Errorf("transfer: %v, %v", r, err)
	}
	seen, err := watch.End()
	if err != nil || len(seen.Canaries) == 0 || len(seen.Strange) == 0 || seen.Bytes < 1<<20 {
		t.Errorf("cleartext was not seen: %+v, %v", seen, err)
	}
}

// TestFounderAloneServes: one host, init --run, and a client gets through.
func TestFounderAloneServes(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	m.watch("client")
	m.nodes[0].start(m.initArgs("--run")...)
	m.ready(1)
	took := m.connect()
	down := m.transfer(lab.Plan{Bytes: 50 << 20, Down: true}).Wait(within(60 * time.Second))
	up := m.transfer(lab.Plan{Bytes: 50 << 20}).Wait(within(60 * time.Second))
	t.Logf("connected after %v; down %v; up %v", took, down, up)
	for _, r := range []lab.Report{down, up} {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestClientKilled: what the client's host sends after a kill -9 of the client
// goes nowhere (I4); the watch would see it. A new client takes over what the
// dead one left.
func TestClientKilled(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	m.watch("client")
	m.found()
	m.connect()
	going := m.transfer(lab.Plan{})
	m.Until("the transfer is under way", 10*time.Second, func() error {
		if n := going.Received(); n < 10<<20 {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	m.client.process.Kill()
	for range 5 {
		if err := m.Reach(m.client.Space, m.dest, destination); err == nil {
			t.Error("the destination is reached without a client")
		}
	}
	time.Sleep(2 * time.Second)
	t.Logf("connected again after %v", m.connect())
}

// TestSlicedTransfer: both directions through three agents of four nodes; what
// each carried follows its weight, and the outer links show nothing.
func TestSlicedTransfer(t *testing.T) {
	m := newMesh(t, 4)
	m.up()
	m.watch("client", "n1", "n2", "n3", "n4")
	m.connect("--slice-mode", "burst")
	bytes := uint64(setting(t, envBytes, defaultMB)) * 1_000_000
	for _, plan := range []lab.Plan{{Bytes: bytes}, {Bytes: bytes, Down: true}} {
		m.oneOf(calmly, fmt.Sprintf("down %v", plan.Down), func() error {
			before := m.slices(3)
			r := m.transfer(plan).Wait(within(5 * time.Minute))
			t.Logf("down %v: %v", plan.Down, r)
			if err := r.Check(); err != nil {
				t.Error(err)
			}
			time.Sleep(4 * time.Second) // agents report what they carried every 2 s
			return checkShares(t, before, m.slices(3), plan.Down)
		})
	}
}

// checkShares compares each agent's share of the bytes with that of its weight.
func checkShares(t *testing.T, before, after control.Session, down bool) (err error) {
	t.Helper()
	shares, _ := sharesOf(before, after, down)
	var weights float64
	for _, slice := range after.Slices {
		if slice.State == "up" {
			weights += float64(slice.Weight)
		}
	}
	for _, slice := range after.Slices {
		if slice.State != "up" {
			continue
		}
		share, weight := shares[slice.Number], float64(slice.Weight)/weights
		t.Logf("down %v: slice %d on %s: weight %.4f, share %.4f (%+.2f %%)", down, slice.Number, slice.Agent, weight, share, 100*(share/weight-1))
		if math.IsNaN(share) || math.Abs(share/weight-1) > 0.05 {
			err = fmt.Errorf("slice %d on %s carried %.4f of the bytes, its weight is %.4f: more than 5 %% apart", slice.Number, slice.Agent, share, weight)
		}
	}
	return err
}

// sharesOf is what each slice that is up carried of the bytes one way, between
// two looks at the session, and how many there were.
func sharesOf(before, after control.Session, down bool) (shares map[uint8]float64, bytes uint64) {
	shares = make(map[uint8]float64)
	of := func(s control.Slice) uint64 {
		if down {
			return s.Out
		}
		return s.In
	}
	had := make(map[uint8]uint64)
	for _, slice := range before.Slices {
		had[slice.Number] = of(slice)
	}
	for _, slice := range after.Slices {
		if slice.State == "up" {
			shares[slice.Number] = float64(of(slice) - had[slice.Number])
			bytes += of(slice) - had[slice.Number]
		}
	}
	for number := range shares {
		shares[number] /= float64(bytes)
	}
	return shares, bytes
}
