package arbiter

import "github.com/meshcrypt/meshcrypt/consensus/registry"

// enlargeVersion is that of the commands that know of meshes with room for more.
const enlargeVersion = 5

// enlarge makes room in a registry that is about to be full, once no server of the log
// is of a build that would refuse what there would be room for.
func (a *Arbiter) enlarge() {
	crowded := false
	a.config.Store.View(func(s *registry.State) { crowded = s.Crowded() })
	if !crowded || a.enlarging || !a.reads(enlargeVersion) {
		return
	}
	a.enlarging = true
	a.submit(proposal{
		command: registry.Command{ID: a.commandID(), Enlarge: &registry.Enlarge{}},
		done:    func(registry.Result, error) { a.enlarging = false },
	})
}
