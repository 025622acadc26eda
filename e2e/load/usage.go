package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// atRest is how long clients rest before what they take is measured: what their logins
// needed is collected by then, and given back.
const atRest = 2 * time.Minute

// asked is all, with what each daemon itself says of its memory.
func (m *mesh) asked() ([]usage, error) {
	all, err := m.all()
	for i := range all {
		if err == nil {
			err = m.says(i, &all[i])
		}
	}
	return all, err
}

// says adds what a daemon says. Its verb fails where something ails, and says it all the
// same.
func (m *mesh) says(i int, u *usage) error {
	said, err := m.tool(i, "status", "-o", "json")
	if said == "" {
		return err
	}
	var s control.Status
	if err := json.Unmarshal([]byte(said), &s); err != nil {
		return err
	}
	if s.Memory != nil { // else it is an older one
		u.memory = *s.Memory
	}
	for _, part := range s.Pool {
		u.sessions += part.Open
	}
	return nil
}

// memory says what the sessions of the mesh take at each node.
func (f *fleet) memory(empty []usage, clients int) error {
	all, err := f.mesh.asked()
	if err != nil {
		return err
	}
	for i, u := range all {
		was := empty[i]
		each := func(is, was uint64) float64 { return (float64(is) - float64(was)) / 1024 / float64(clients) }
		fmt.Printf("n%d: RSS %d MiB, %d descriptors, %d threads; for each of the mesh's sessions %.1f KiB of RSS more, of which heap %.1f (%.1f live), stacks %.1f, kept for later %.1f; %.1f goroutines\n",
			i, u.rss>>20, u.descriptors, u.threads, each(uint64(u.rss), uint64(was.rss)), each(u.memory.Heap, was.memory.Heap),
			each(u.memory.Live, was.memory.Live), each(u.memory.Stacks, was.memory.Stacks), each(u.memory.Free, was.memory.Free),
			(float64(u.memory.Goroutines)-float64(was.memory.Goroutines))/float64(clients))
	}
	return nil
}

// rest logs all clients in, lets them rest and says what they take.
func (f *fleet) rest(o options) error {
	empty, err := f.mesh.asked()
	if err != nil {
		return err
	}
	if err := f.login(o); err != nil {
		return err
	}
	before, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	time.Sleep(atRest)
	after, err := f.mesh.cpu()
	if err != nil {
		return err
	}
	fmt.Printf("after %v at rest, which took %.1f %% of a core, all nodes together:\n", atRest, 100*(after-before).Seconds()/atRest.Seconds())
	return f.memory(empty, o.clients)
}
