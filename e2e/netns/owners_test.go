//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// owners watches on which nodes the inside addresses are.
type owners struct {
	stop  chan struct{}
	group sync.WaitGroup

	mu    sync.Mutex // protects the fields below
	at    map[string]string
	alone map[string]string    // the last node that an address was at alone
	since map[string]time.Time // when an address was last alone at a node
	told  ownership
}

// ownership is what was seen of the inside addresses.
type ownership struct {
	two     time.Duration       // the longest that one was at two nodes
	moves   []string            // in words
	changes map[string]int      // of the node that an address was at alone
	left    map[string][]string // by address, the nodes that it was at alone before
	back    int                 // moves to a node that the address had left
	last    time.Time           // of the newest move
}

// most is the changes of the address that had most.
func (o ownership) most() (most int) {
	for _, n := range o.changes {
		most = max(most, n)
	}
	return most
}

func (m *mesh) watchOwners() *owners {
	o := &owners{stop: make(chan struct{}), at: map[string]string{}, alone: map[string]string{}, since: map[string]time.Time{},
		told: ownership{changes: map[string]int{}, left: map[string][]string{}}}
	begin := time.Now()
	o.group.Go(func() {
		for {
			o.look(m.owned(), time.Since(begin))
			select {
			case <-o.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	m.Cleanup(o.end)
	return o
}

// owned is who has each inside address on its TUN just now.
func (m *mesh) owned() map[string][]string {
	owned := map[string][]string{}
	for i := range parts {
		for _, at := range m.plan.inside.each(fmt.Sprintf("10.20.0.%d", 201+i), fmt.Sprintf("fd20::%d", 201+i)) {
			owned[at] = nil
		}
	}
	for _, n := range m.nodes {
		// A node without a TUN has none.
		_ = n.Do(func() error {
			device, err := net.InterfaceByName("mesh0")
			if err != nil {
				return err
			}
			addresses, err := device.Addrs()
			for _, a := range addresses {
				at, _, _ := strings.Cut(a.String(), "/")
				if _, moving := owned[at]; moving {
					owned[at] = append(owned[at], n.Name)
				}
			}
			return err
		})
	}
	return owned
}

// calm is what must not go back and forth when something is lost or comes back: the
// inside addresses, and the lead, by the word of one host.
type calm struct {
	owners *owners
	at     *host
	term   int
}

func (m *mesh) watchCalm(at *host) *calm {
	m.Helper()
	c := &calm{at: at}
	m.Until(at.Name+" tells the term", 10*time.Second, func() (err error) { c.term, err = at.term(); return err })
	c.owners = m.watchOwners()
	return c
}

// kept judges both since the last call.
func (c *calm) kept(fault string, beside time.Duration) error {
	return c.keptBy(fault, beside, c.owners.seen())
}

func (c *calm) keptBy(fault string, beside time.Duration, seen ownership) error {
	before, err := c.term, error(nil)
	c.term, err = c.at.term()
	return errors.Join(err,
		counted(fault, "moves of an inside address", seen.most(), beside, cutMoves),
		counted(fault, "of them back", seen.back, beside, 0),
		counted(fault, "elections", c.term-before, beside, cutTerms))
}

func (o *owners) look(owned map[string][]string, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(owned)) {
		names := strings.Join(owned[address], "+")
		was, seen := o.at[address]
		if seen && names == was {
			if len(owned[address]) > 1 {
				o.told.two = max(o.told.two, time.Since(o.since[address]))
			}
			continue
		}
		o.at[address], o.since[address] = names, time.Now()
		if len(owned[address]) == 1 && o.alone[address] != names {
			if before := o.alone[address]; before != "" {
				o.told.changes[address]++
				o.told.left[address] = append(o.told.left[address], before)
			}
			if slices.Contains(o.told.left[address], names) {
				o.told.back++
			}
			o.alone[address] = names
		}
		if seen {
			o.told.last = time.Now()
			o.told.moves = append(o.told.moves, fmt.Sprintf("%.2fs %s at %q", at.Seconds(), address, names))
		}
	}
}

func (o *owners) end() {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.group.Wait()
}

// seen is what there was since the last call.
func (o *owners) seen() (told ownership) {
	o.mu.Lock()
	defer o.mu.Unlock()
	told, o.told = o.told, ownership{changes: map[string]int{}, left: map[string][]string{}}
	return told
}
