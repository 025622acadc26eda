//go:build !e2e && !race

package sim

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/client"
)

// TestTrunkBreaks: a gateway's trunk takes all its clients' streams with it, and who was
// connected for long is so again at once, whether both ends heard of it or the arbiter's alone.
func TestTrunkBreaks(t *testing.T) {
	const within = 2 * time.Second
	for _, both := range []bool{true, false} {
		t.Run(fmt.Sprint("both ends: ", both), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1)
				w.parkAfter = neverParks
				w.found(3, 3)
				defer w.end()
				w.cluster.Bootstrap(0)
				for i, n := range w.mesh.members {
					n.start(i == 0)
				}
				w.until(startWithin - 2*time.Second)
				gateway := (w.roles().leads + 1) % 3
				for _, v := range w.mesh.visitors {
					v.connect(gateway)
				}
				w.until(w.now() + client.Lasting + 2*time.Second)
				if _, connected := w.parked(); connected != 3 {
					t.Fatalf("%d clients are connected", connected)
				}
				w.breakTrunk(w.mesh.members[gateway], both)
				w.until(w.now() + 10*time.Millisecond)
				if _, connected := w.parked(); both && connected != 0 {
					t.Errorf("%d clients are connected by a trunk that is over", connected)
				}
				w.until(w.now() + within)
				if _, connected := w.parked(); connected != 3 {
					t.Errorf("%d clients are connected %v later", connected, within)
				}
			})
		})
	}
}
