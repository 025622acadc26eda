package arbiter

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestMeasuresReachTheEgress: what a client measured is told to its egress,
// not oftener than MeasuresEvery, shown to operators, and forgotten with the
// session.
func TestMeasuresReachTheEgress(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", dataRoles)
	now := time.Hour
	a.config.Now = func() time.Duration { return now }
	s := f.session(a, 1, n.node)
	a.pushViews()
	views(n)
	f.store.View(func(all *registry.State) { all.Nodes[n.node].Name = "renamed" }) // not told with measures
	flows := func() (told []protocol.Flow) {
		for _, v := range views(n) {
			if len(v.Nodes)+len(v.Parts)+len(v.Unroutes) > 0 {
				t.Errorf("told more than the route: %+v", v)
			}
			for _, r := range v.Routes {
				told = append(told, r.Flow)
			}
		}
		return told
	}
	say := func(skew uint32) []protocol.Flow {
		paths := make([]protocol.Path, registry.MaxSlices+3)
		a.takeMeasures(s.ID, &protocol.Alive{Flow: protocol.Flow{Skew: skew, Gap: 2 * skew}, Paths: paths})
		return flows()
	}
	if told := say(40); len(told) != 1 || told[0] != (protocol.Flow{Skew: 40, Gap: 80}) {
		t.Errorf("told %v", told)
	}
	if told := say(40); len(told) != 0 {
		t.Errorf("told again: %v", told)
	}
	if told := say(5); len(told) != 0 {
		t.Errorf("told too soon: %v", told)
	}
	if a.tick(); len(flows()) != 0 {
		t.Error("told too soon by a tick")
	}
	now += MeasuresEvery
	if a.tick(); len(a.lateFlows) != 0 {
		t.Errorf("%d flows wait on", len(a.lateFlows))
	}
	if told := flows(); len(told) != 1 || told[0].Skew != 5 { // a client at rest does not say it again
		t.Errorf("told %v", told)
	}
	if say(6); len(a.lateFlows) != 1 {
		t.Errorf("%d flows wait", len(a.lateFlows))
	}
	if got := len(a.measures[s.ID].paths); got != registry.MaxSlices { // I10
		t.Errorf("%d paths of one session", got)
	}
	s.State = registry.SessionEnded
	a.pushViews()
	if a.tellFlows(now); len(a.measures)+len(a.lateFlows) != 0 {
		t.Error("the measures outlive their session")
	}
}
