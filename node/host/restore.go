package host

import (
	"errors"
)

// Restore removes all that a killed process left according to its state file,
// blackholes too, and puts the original settings back. No state file, nothing
// to do. The process that wrote it must not run any more.
func Restore(stateFile string) error {
	state, err := readJournal(stateFile)
	if err != nil || state == nil {
		return err
	}
	removed := remove(state.Role, state.Table, false)
	j, err := openJournal(stateFile, state.Role, state.Table)
	if err != nil {
		return errors.Join(removed, err)
	}
	return j.end(removed)
}
