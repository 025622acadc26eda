package node

import (
	"fmt"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// thin is what is wrong with who votes and who works, as the arbiter told last: a mesh
// that one more death would stop works as well as another, until then.
func thin(rows []protocol.NodeRow) (all []string) {
	voters, silent, wrong := 0, []string(nil), []string(nil)
	drained, working, another := 0, false, anotherVoter
	for _, row := range rows {
		if row.Voter {
			voters++
			switch {
			case !row.Up && row.Clock != 0: // it is there, and its certificates are out of date for the others
				wrong = append(wrong, row.Name)
			case !row.Up:
				silent = append(silent, row.Name)
			}
		}
		if row.Up && !row.Voter && row.May&registry.RoleVoter != 0 {
			another = fmt.Sprintf("wait: %s gets its vote once it was silent for %d s", row.Name, int(arbiter.VoterSilence.Seconds()))
		}
		switch {
		case row.Drained:
			drained++
		case row.Up && row.May&(registry.RoleGateway|registry.RoleAgent) != 0:
			working = true
		}
	}
	slices.Sort(silent)
	slices.Sort(wrong)
	left := spare(voters, len(silent)+len(wrong))
	for _, name := range wrong {
		all = append(all, fmt.Sprintf("the voter %s takes no part, for its clock is wrong: %s; set the clock there, and meshcrypt members shows it up again", name, left))
	}
	for _, name := range silent {
		all = append(all, fmt.Sprintf("the voter %s is silent: %s; start it again, or %s, or take its vote: meshcrypt operator raft remove-peer %s",
			name, left, another, name))
	}
	if drained > 0 && !working {
		all = append(all, "every node is drained: nobody can log in; give one work again: meshcrypt undrain")
	}
	return all
}

// spare is how many more voters may die.
func spare(voters, silent int) string {
	switch left := voters - silent - (voters/2 + 1); {
	case left <= 0:
		return "if one more dies nobody can log in"
	case left == 1:
		return "one more may die, and no other"
	default:
		return fmt.Sprintf("%d more may die", left)
	}
}
