package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// watch is the work of a stand while nobody asks it for anything: it hears of
// changes, puts back what others removed, and says what it could not.
type watch struct {
	quit  chan struct{}
	once  sync.Once
	group sync.WaitGroup
	heard chan struct{} // something may have changed

	faults  atomic.Pointer[[]string]
	putBack [kinds]atomic.Uint64

	// Owned by the goroutine.
	patience [kinds]patience
	failing  [kinds]error
	lookedAt time.Time
	lost     bool // the TUN is gone, which was said
	around   around
}

func (w *watch) init() {
	w.quit, w.heard = make(chan struct{}), make(chan struct{}, 1)
}

// around is what of the host around us is in the way, as last seen.
type around struct {
	faults  []string
	changed bool // since then
	next    time.Time
}

// poke says that there may be something to do.
func (w *watch) poke() {
	select {
	case w.heard <- struct{}{}:
	default: // it is to look anyway
	}
}

// end ends the watch and waits until it has ended. What it had to say of faults
// is void.
func (w *watch) end() {
	w.once.Do(func() { close(w.quit) })
	w.group.Wait()
	w.faults.Store(nil)
}

// surroundings is what only the owner of a stand can judge.
type surroundings struct {
	faults func() []string // that no put-back could mend
	lost   func(error)     // the TUN is gone; may be nil
}

// keep begins the watch. Without the kernel's messages it would be blind, so
// that is an error.
func (s *stand) keep(with surroundings) error {
	heard, err := s.hear()
	if err != nil {
		return err
	}
	s.watch.group.Go(func() {
		defer heard()
		s.run(with)
	})
	return nil
}

func (s *stand) run(with surroundings) {
	w := &s.watch
	tick := time.NewTicker(sysctlEvery)
	defer tick.Stop()
	for {
		due := false // for a whole look
		select {
		case <-w.quit:
			return
		case <-w.heard:
			due, w.around.changed = true, true
		case now := <-tick.C:
			due = now.Sub(w.lookedAt) >= lookEvery || w.pending()
			w.around.changed = w.around.changed || now.Sub(w.around.next) >= aroundEvery
		}
		if due || s.sysctlsChanged() {
			s.mend(time.Now(), with)
		}
		select { // other changes of the same moment are one
		case <-w.quit:
			return
		case <-time.After(lookGap):
		}
	}
}

// pending reports whether something was left for later.
func (w *watch) pending() bool {
	for k := range kinds {
		if w.failing[k] != nil || w.patience[k].fought() {
			return true
		}
	}
	return w.around.changed
}

// sysctlsChanged looks at the settings alone, of which no message tells.
func (s *stand) sysctlsChanged() bool {
	s.mu.Lock()
	settings := s.want.settings
	s.mu.Unlock()
	now := lookSysctls(settings)
	return slices.ContainsFunc(settings, func(one setting) bool {
		value, there := now[one.name]
		return there && value != one.value
	})
}

// mend looks at the whole and puts back what lacks.
func (s *stand) mend(at time.Time, with surroundings) {
	w := &s.watch
	w.lookedAt = at
	gone := s.putBack(at)
	if gone && !w.lost {
		w.lost = true
		if with.lost != nil {
			with.lost(fmt.Errorf("%w: %q was removed while it was in use; start meshcrypt again", ErrNoDevice, s.tun))
		}
	}
	if w.around.changed && !at.Before(w.around.next) {
		w.around.changed = false
		begin := time.Now()
		w.around.faults = with.faults()
		// A host with a large firewall takes long to read.
		w.around.next = time.Now().Add(max(aroundGap, aroundShare*time.Since(begin)))
	}
	s.publish(gone)
}

// putBack gives whether the TUN has gone.
func (s *stand) putBack(at time.Time) (gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	w := &s.watch
	now, err := s.look(s.want)
	if err != nil {
		w.failing[kindDevice] = err
		return false
	}
	missing := s.want.lacks(now)
	w.failing = [kinds]error{}
	for k := range kinds {
		some := slices.DeleteFunc(slices.Clone(missing), func(g thing) bool { return g.kind != k })
		if len(some) == 0 {
			w.patience[k].settle(at)
			continue
		}
		if !w.patience[k].allows(at) {
			continue
		}
		for _, g := range some {
			w.failing[k] = errors.Join(w.failing[k], s.put(g))
		}
		w.patience[k].spend(at)
		if w.failing[k] == nil {
			w.putBack[k].Add(uint64(len(some)))
		}
		s.tell(at, k, some)
	}
	return s.want.up && now.device == 0
}

// tell logs at most one line of a kind in a while.
func (s *stand) tell(at time.Time, k kind, some []thing) {
	p := &s.watch.patience[k]
	p.untold++
	if at.Sub(p.toldAt) < tellEvery && !p.toldAt.IsZero() {
		return
	}
	what := some[0].String()
	if len(some) > 1 {
		what = fmt.Sprintf("%s and %d more", what, len(some)-1)
	}
	if err := s.watch.failing[k]; err != nil {
		s.log.Error("other software removed what is ours on this host, and it cannot be put back", "what", what, "error", err)
	} else {
		s.log.Warn("other software removed what is ours on this host; it is put back", "what", what, "times", p.untold)
	}
	p.toldAt, p.untold = at, 0
}

// publish makes the list of faults.
func (s *stand) publish(gone bool) {
	var all []string
	w := &s.watch
	if gone {
		all = append(all, fmt.Sprintf("the interface %s is gone: start meshcrypt again", s.tun))
	}
	for k := range kinds {
		switch {
		case w.failing[k] != nil:
			all = append(all, fmt.Sprintf("what other software removed cannot be put back: %v", w.failing[k]))
		case w.patience[k].fought():
			all = append(all, fmt.Sprintf("other software removes the %v of meshcrypt again and again, so it is put back once a second only; %s",
				k, culprit[k]))
			if !w.patience[k].warned {
				w.patience[k].warned = true
				s.log.Error("other software keeps removing what is ours on this host", "what", k.String(), "next", culprit[k])
			}
		default:
			w.patience[k].warned = false
		}
	}
	all = append(all, w.around.faults...)
	w.faults.Store(&all)
}

// culprit says how to find who removes what.
var culprit = [kinds]string{
	kindBlackhole: "see `ip monitor route`; for systemd-networkd set ManageForeignRoutes=no in /etc/systemd/networkd.conf",
	kindFence:     "see `nft monitor`",
	kindRule:      "see `ip monitor rule`; for systemd-networkd set ManageForeignRoutingPolicyRules=no in /etc/systemd/networkd.conf",
	kindFilter:    "see `nft monitor`",
	kindSysctl:    "see `sysctl -a` and /etc/sysctl.d",
	kindDevice:    "see `ip monitor link`",
	kindAddress:   "see `ip monitor address`",
	kindRoute:     "see `ip monitor route`; for systemd-networkd set ManageForeignRoutes=no in /etc/systemd/networkd.conf",
}

// list is what is not whole just now.
func (w *watch) list() []string {
	if all := w.faults.Load(); all != nil {
		return *all
	}
	return nil
}

// counts are the things put back so far, by kind.
func (w *watch) counts() map[string]uint64 {
	all := map[string]uint64{}
	for k := range kinds {
		if n := w.putBack[k].Load(); n > 0 {
			all[strings.ReplaceAll(k.String(), " ", "-")] = n
		}
	}
	return all
}

// patience bounds the fight with somebody who removes what we put, for one kind.
type patience struct {
	quick  int       // put-backs in a row that were undone at once
	last   time.Time // put-back
	warned bool
	toldAt time.Time
	untold int
}

// fought reports whether somebody undoes what is put.
func (p *patience) fought() bool { return p.quick >= fightMost }

// allows reports whether it is time to put back.
func (p *patience) allows(at time.Time) bool {
	return !p.fought() || at.Sub(p.last) >= fightPause
}

// spend counts one put-back.
func (p *patience) spend(at time.Time) {
	if at.Sub(p.last) <= fightSoon {
		p.quick++
	} else {
		p.quick = 0
	}
	p.last = at
}

// settle forgets a fight that is over.
func (p *patience) settle(at time.Time) {
	if at.Sub(p.last) > fightSoon {
		p.quick = 0
	}
}
