package registry

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/e2e/cost"
)

// crowd is a mesh of 4 nodes in a /14 pool with n sessions of two slices each, of
// n/4 clients with four devices.
func crowd(t testing.TB, n int) *fixture {
	t.Helper()
	f := &fixture{t: t, s: New(), term: 1}
	c := founding()
	c.Cluster.Pool = []netip.Prefix{prefix("10.80.0.0/14")}
	c.Parts = []Part{{Prefix: prefix("10.80.0.0/14")}}
	f.must(Command{Found: c})
	f.must(Command{CreateToken: &CreateToken{Token: Token{
		ID: "tok", Verify: []byte("v"), May: anyRoles, Uses: 9, Expires: MaxTokenLife}}})
	for i := range 3 {
		f.join(1 + i)
	}
	f.must(Command{Enlarge: &Enlarge{}})
	for i := range n/4 + 600 {
		f.client(fmt.Sprint("c", i))
	}
	for i := range n {
		f.crowd(i)
	}
	return f
}

// crowd opens session i.
func (f *fixture) crowd(i int) {
	f.t.Helper()
	c := tracked(f.opening(i, fmt.Sprint("c", i/4%f.s.Clients.Len()), f.slice(0, i%4), f.slice(1, (i+1)%4)), 1+i%4)
	c.Part = f.s.Parts[0].Prefix
	f.must(Command{OpenSession: c})
}

// work is how many things are made by what a login and a logout at session i make
// the registry do: a count that the machine's load does not change.
func (f *fixture) work(i int) float64 {
	return testing.AllocsPerRun(50, func() {
		f.crowd(i)
		f.must(mark(i, 1, SliceUp))
		grant := grant(i, f.slice(1, i%3), 2, true)
		f.must(grant)
		f.must(Command{AdvanceTick: &AdvanceTick{Elapsed: 1}})
		f.s.LastLease(fmt.Sprint("c", i/4), device(9))
		f.s.PoolUse()
		f.end(i)
		f.acknowledge(i%4, i)
		f.acknowledge((i+1)%4, i)
		f.acknowledge(i%3, i)
		i++
	})
}

// TestCostOfALogin: what a login makes grows with the depth of the trees, not with
// how many sessions there are.
func TestCostOfALogin(t *testing.T) {
	few, many := crowd(t, 500), crowd(t, 16_000)
	if a, b := few.work(500), many.work(16_000); b > 1.7*a {
		t.Errorf("%.0f things made at 500 sessions, %.0f at 16,000", a, b)
	}
}

// TestLoginLooksAtNobodyElse: a login and a logout look at no session, lease, client
// or certificate of others. There is nothing there to look at.
func TestLoginLooksAtNobodyElse(t *testing.T) {
	f := crowd(t, 400)
	for i := range 400 {
		for _, a := range f.s.Sessions.Get(session(i)).Leases {
			f.s.Leases.Put(a, nil)
		}
		f.s.Sessions.Put(session(i), nil)
		f.s.Clients.Put(fmt.Sprint("c", i/4), nil)
	}
	f.work(400)
}

// TestCloneCostsNothing: a clone makes one thing, whatever there is in the state.
func TestCloneCostsNothing(t *testing.T) {
	f := crowd(t, 500)
	var clone *State
	if made := testing.AllocsPerRun(20, func() { clone = f.s.Clone() }); made > 1 {
		t.Errorf("%.0f things made for a clone", made)
	}
	if !alike(clone, f.s) {
		t.Error("a clone is another state")
	}
}

// BenchmarkScale is what Apply costs against the number of sessions.
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		f, next := crowd(b, n), n
		size := fmt.Sprintf("/nodes=3/sessions=%d", n)
		steps := []func(){
			func() { f.crowd(next) },
			func() { f.end(next) },
			func() { f.acknowledge(next%4, next) },
			func() { f.acknowledge((next+1)%4, next); next++ },
		}
		b.Run("login_and_logout,_applied"+size, func(b *testing.B) {
			cost.Measure(b, nil, func(int) {
				for _, step := range steps {
					step()
				}
			})
		})
		b.Run("a_command_applied,_p99"+size, func(b *testing.B) {
			cost.Worst1Percent(b, func(i int) { steps[i%len(steps)]() })
		})
		b.Run("a_snapshot_begins"+size, func(b *testing.B) { cost.Measure(b, nil, func(int) { f.s.Clone() }) })
	}
}
