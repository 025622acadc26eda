package masquerade

import (
	"slices"

	"github.com/meshcrypt/meshcrypt/node/netstack"
)

// may reports whether a flow may begin: by the rule of the client that it is
// from, whatever else the mesh offers.
func (e *Egress) may(f netstack.Flow) bool {
	switch f.To.Port() {
	case 0:
		return false
	case e.config.InsidePort:
		// There nodes believe each other by address; tests of the path are theirs.
		return slices.Contains(e.config.Tests, f.From.Addr())
	}
	return e.rules.Load().Get(f.From.Addr()).Admits(f.To.Addr())
}
