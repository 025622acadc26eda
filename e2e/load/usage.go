package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

const (
	// mustRest is how many bytes of RSS a session of the mesh may take at any node, and
	// meant the clients with whom: among few of them a process's own buffers, of which it
	// has as many for ten clients as for ten thousand, look like theirs.
	mustRest = 8 << 10
	meant    = 10_000
)

// atRest is how long clients rest before what they take is measured: what their logins
// needed is collected by then, and given back.
const atRest = 150 * time.Second

// emptyRest is how long a mesh without clients rests before it is measured: nodes that have
// just begun have the heap's room of busy ones for two or three looks of node.HeapEvery, and
// that would be taken off the clients' part.
const emptyRest = 50 * time.Second

// The CPU at rest is measured over the end of these alone: clients park after
// client.ParkAfter, each at another time, and that costs more than a minute parked.
const (
	settledFor = time.Minute
	emptyFor   = 20 * time.Second
)

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

// grew is what each of so many sessions takes of a node, in bytes.
type grew struct{ rss, anonymous, files, heap, live, stacks, free, goroutines float64 }

// over is what a node has more than when it was empty, by session.
func (u usage) over(empty usage, clients int) grew {
	each := func(is, was uint64) float64 { return (float64(is) - float64(was)) / float64(clients) }
	m, was := u.memory, empty.memory
	return grew{
		rss: each(uint64(u.rss), uint64(empty.rss)), anonymous: each(u.anonymous, empty.anonymous), files: each(u.files, empty.files),
		heap: each(m.Heap, was.Heap), live: each(m.Live, was.Live), stacks: each(m.Stacks, was.Stacks), free: each(m.Free, was.Free),
		goroutines: each(m.Goroutines, was.Goroutines),
	}
}

func (g grew) String() string {
	return fmt.Sprintf("%.1f KiB of RSS more (%.1f of its own, %.1f of files), of which heap %.1f (%.1f live), stacks %.1f, kept for later %.1f; %.1f goroutines",
		g.rss/1024, g.anonymous/1024, g.files/1024, g.heap/1024, g.live/1024, g.stacks/1024, g.free/1024, g.goroutines)
}

// memory says what the sessions of the mesh take at each node, and gives the most that one
// takes of RSS.
func (f *fleet) memory(empty []usage, clients int) (most float64, err error) {
	all, err := f.mesh.asked()
	for i, u := range all {
		each := u.over(empty[i], clients)
		fmt.Printf("n%d: RSS %d MiB, %d descriptors, %d threads; for each of the mesh's sessions %v\n", i, u.rss>>20, u.descriptors, u.threads, each)
		most = max(most, each.rss)
	}
	return most, err
}

// verdict is whether clients at rest take no more than they may.
func verdict(most float64, clients int) error {
	note := ""
	if clients < meant {
		note = fmt.Sprintf("; with %d clients what a process has for itself counts, too: it is meant for %d", clients, meant)
	}
	if most > mustRest {
		return fmt.Errorf("a session takes %.1f KiB of a node, must be at most %.1f%s", most/1024, mustRest/1024.0, note)
	}
	fmt.Printf("a session takes at most %.1f KiB of a node, must be at most %.1f%s\n", most/1024, mustRest/1024.0, note)
	return nil
}

// rest logs all clients in, lets them rest and says what they take.
func (f *fleet) rest(o options) error {
	empty, err := f.restEmpty()
	if err != nil {
		return err
	}
	if err := f.login(o); err != nil {
		return err
	}
	spent, err := f.cpuOver(atRest - settledFor)
	if err != nil {
		return err
	}
	settled, err := f.cpuOver(settledFor)
	if err != nil {
		return err
	}
	fmt.Printf("after %v at rest, which took %.1f %% of a core, all nodes together, and %.1f %% in the last %v:\n",
		atRest, share(spent+settled, atRest), share(settled, settledFor), settledFor)
	most, err := f.memory(empty, o.clients)
	if err != nil {
		return err
	}
	return verdict(most, o.clients)
}

// restEmpty lets the mesh rest without clients, and says what that takes.
func (f *fleet) restEmpty() ([]usage, error) {
	time.Sleep(emptyRest - emptyFor)
	spent, err := f.cpuOver(emptyFor)
	if err != nil {
		return nil, err
	}
	fmt.Printf("without clients %.1f %% of a core, all nodes together\n", share(spent, emptyFor))
	return f.mesh.asked()
}

// cpuOver is what the daemons take of the CPU from now on for so long.
func (f *fleet) cpuOver(d time.Duration) (time.Duration, error) {
	before, err := f.mesh.cpu()
	if err != nil {
		return 0, err
	}
	time.Sleep(d)
	after, err := f.mesh.cpu()
	return after - before, err
}

// share is the percentage of a core that so much CPU is.
func share(spent, of time.Duration) float64 { return 100 * spent.Seconds() / of.Seconds() }
