//go:build e2e

package netns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// Limits of time are judged beside a flow that nobody disturbs (lab.Beside): what
// can be done twice in one world by lab.Again, a whole test by unspoiled.

// quiet begins to measure what the machine costs a flow that nobody disturbs.
func (m *mesh) quiet() *lab.Beside {
	m.Helper()
	if m.undisturbed == nil {
		m.undisturbed = m.Beside()
	}
	m.undisturbed.Forget()
	return m.undisturbed
}

// tryName begins the name of a test that can be tried again.
const tryName = "try"

// want fails the test for an error, unless the machine spoiled it and the whole
// test can be tried again.
func (m *mesh) want(err error) {
	m.Helper()
	if lab.Spoiled(err) && strings.Contains(m.t.Name(), "/"+tryName) {
		panic(err)
	}
	if err != nil {
		m.t.Error(err)
	}
}

// unspoiled runs a whole test again that the machine spoiled; the last try counts
// in any case.
func unspoiled(t *testing.T, test func(*testing.T)) {
	t.Helper()
	var err error
	for n := 1; n <= lab.SpoiledTries; n++ {
		err = nil
		t.Run(fmt.Sprint(tryName, n), func(t *testing.T) {
			defer func() {
				cause := recover()
				if cause == nil {
					return
				}
				var ok bool
				if err, ok = cause.(lab.Late); !ok {
					panic(cause)
				}
				t.Logf("SPOILED by the machine, try %d of %d: %v", n, lab.SpoiledTries, err)
			}()
			test(t)
		})
		if err == nil || t.Failed() {
			return
		}
	}
	t.Error(err)
}
