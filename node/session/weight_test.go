package session

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// weighed lets nodes report a load every half second, and counts new weights.
func (w *world) weighed(d time.Duration, load func(node int, at time.Duration) float64) (commits int) {
	start := w.now
	for w.now < start+d {
		for i, n := range w.nodes {
			w.queue = append(w.queue, Load{Node: n.id(), Used: load(i, w.now)})
		}
		w.settle()
		for range 5 {
			w.now += 100 * time.Millisecond
			actions := w.arb.Tick(w.now, w.state)
			for _, action := range actions {
				if p, is := action.(Propose); is && p.Command.WeighSlices != nil {
					commits++
				}
			}
			w.do(actions)
			w.settle()
		}
	}
	return commits
}

// TestWeightsFollowWhatLasts: load that changes all the time makes no commit, and one
// that lasts makes one for each session of the node, after ShareHold.
func TestWeightsFollowWhatLasts(t *testing.T) {
	const sessions = 100
	w := crowd(5, sessions)
	noise := rand.New(rand.NewPCG(1, 2))
	calm := func(int, time.Duration) float64 { return 0.3 }
	restless := func(node int, at time.Duration) float64 {
		wave := math.Sin(2 * math.Pi * (at.Seconds()/12 + float64(node)/5))
		return min(max(0.4+0.4*wave+0.1*noise.NormFloat64(), 0), 1)
	}
	foreign := func(node int, at time.Duration) float64 {
		if node == 2 {
			return 0.9
		}
		return calm(node, at)
	}
	w.weighed(30*time.Second, calm)
	if n := w.weighed(2*time.Minute, restless); n != 0 {
		t.Errorf("%d commits of weights while the load comes and goes", n)
	}
	w.weighed(30*time.Second, calm)
	if n := w.weighed(ShareHold-time.Second, foreign); n != 0 {
		t.Errorf("%d commits of weights before ShareHold", n)
	}
	if n := w.weighed(30*time.Second, foreign); n != sessions {
		t.Errorf("%d commits of weights of %d sessions for a load that lasts", n, sessions)
	}
	for _, s := range w.state.ActiveSessions() {
		if weight := weightOn(s, w.nodes[2]); weight >= 1000 || weight == 0 {
			t.Fatalf("weight %d on the busy node", weight)
		}
	}
}

func weightOn(s *registry.Session, n *fakeNode) uint32 {
	for _, sl := range s.Slices {
		if sl.Agent == n.id() {
			return sl.Weight
		}
	}
	return 0
}
