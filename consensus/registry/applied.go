package registry

import (
	"cmp"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
)

// applied remembers the results of the newest MaxApplied commands.
type applied struct {
	count   uint64                              // of all commands ever
	results sorted.Map[uint64, *AppliedCommand] // by number; pointers, or each step of a way would copy one
	numbers sorted.Map[CommandID, uint64]
}

func newApplied() applied {
	return applied{
		results: sorted.New[uint64, *AppliedCommand](cmp.Compare[uint64]),
		numbers: sorted.New[CommandID, uint64](CommandID.Compare),
	}
}

func (a *applied) result(id CommandID) (Result, bool) {
	n, ok := a.numbers.Find(id)
	if !ok {
		return Result{}, false
	}
	return a.results.Get(n).Result, true
}

// remember takes note of one more command, in place of the oldest when it is full.
func (a *applied) remember(c AppliedCommand) {
	a.results.Put(a.count, &c)
	a.numbers.Put(c.ID, a.count)
	a.count++
	if a.count > MaxApplied && a.results.Len() > MaxApplied {
		a.forget(a.count - MaxApplied - 1)
	}
}

func (a *applied) forget(n uint64) {
	id := a.results.Get(n).ID
	a.results.Delete(n)
	if a.numbers.Get(id) == n {
		a.numbers.Delete(id)
	}
}

// list are the commands, the newest last; nil: none.
func (a *applied) list() (all []AppliedCommand) {
	for _, c := range a.results.All() {
		all = append(all, *c)
	}
	return all
}
