package registry

import (
	"iter"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// indexShift is where an SPI carries its node's index.
const indexShift = 20

// maxSlices is how many slices a session may have now.
func (s *State) maxSlices() int {
	if s.Policy.Slices > 0 {
		return s.Policy.Slices
	}
	return MaxSlices
}

// checkSlices prepares the first epoch of every slice of a new session.
func (s *State) checkSlices(wanted []Slice, at entry) ([]Slice, *Error) {
	if len(wanted) == 0 || len(wanted) > s.maxSlices() {
		return nil, ErrInvalid.with("%d slices, want 1 to %d", len(wanted), s.maxSlices())
	}
	granted := make([]Slice, 0, len(wanted))
	for _, sl := range wanted {
		if sl.Epoch > 1 {
			return nil, ErrStale.with("slice %d starts at epoch %d", sl.Number, sl.Epoch)
		}
		clash := func(g Slice) bool { return g.Number == sl.Number }
		if slices.ContainsFunc(granted, clash) {
			return nil, ErrInvalid.with("slice %d is named twice", sl.Number)
		}
		reuse := func(g Slice) bool { return g.Agent == sl.Agent && (g.SPI == sl.SPI || g.Boot != sl.Boot) }
		if slices.ContainsFunc(granted, reuse) {
			return nil, ErrPrekey.with("SPI %#x is named twice, or its agent at two boots", sl.SPI)
		}
		if err := s.checkGrant(sl); err != nil {
			return nil, err
		}
		sl.Epoch = 1
		granted = append(granted, sl.granted(s.Tick, at))
	}
	slices.SortFunc(granted, func(a, b Slice) int { return int(a.Number) - int(b.Number) })
	return granted, nil
}

// granted is the slice as this commit makes it (I6).
func (sl Slice) granted(now Tick, at entry) Slice {
	sl.State, sl.Since = SliceGranted, now
	sl.Index, sl.Term = at.index, at.term
	return sl
}

// checkGrant rechecks that the agent may own a slice by this prekey.
func (s *State) checkGrant(sl Slice) *Error {
	n, err := s.member(sl.Agent)
	if err != nil {
		return err
	}
	switch {
	case n.Is&RoleAgent == 0 || n.Drained:
		return ErrStale.with("node %s is not an active agent", n.ID.Short())
	case sl.Weight == 0 || sl.Suite == 0 || sl.Boot == (identity.BootID{}):
		return ErrInvalid.with("slice %d without weight, suite or boot", sl.Number)
	case identity.Index(sl.SPI>>indexShift) != n.Index:
		return ErrPrekey.with("SPI %#x is not of node %s", sl.SPI, n.ID.Short())
	case slices.Contains(n.PastBoots, sl.Boot):
		return ErrStale.with("boot %s of node %s", sl.Boot, n.ID.Short())
	case n.Boot == sl.Boot && s.spent.Get(n.ID).has(sl.SPI):
		return ErrPrekey.with("SPI %#x was granted before", sl.SPI)
	}
	return nil
}

// apply gives one slice epoch to one agent: the only place where a slice changes
// its owner (I3).
func (c *GrantSlice) apply(s *State, at entry) (Result, *Error) {
	ses, err := s.active(c.Session)
	if err != nil {
		return Result{}, err
	}
	if err := s.admitted(ses.Client); err != nil {
		return Result{}, err
	}
	i := slices.IndexFunc(ses.Slices, func(sl Slice) bool { return sl.Number == c.Slice.Number })
	if err := c.checkEpoch(s, ses, i); err != nil {
		return Result{}, err
	}
	if err := ses.peered(c.Slice); err != nil {
		return Result{}, err
	}
	if err := s.checkGrant(c.Slice); err != nil {
		return Result{}, err
	}
	s.spend(c.Slice)
	ses = s.Sessions.Get(ses.ID).copy() // a new boot may have voided slices
	granted := c.Slice.granted(s.Tick, at)
	ses.hold(granted)
	switch {
	case i < 0:
		ses.insert(granted)
	case c.Retire && ses.Slices[i].State != SliceVoid:
		ses.Retiring = append(ses.Retiring, ses.Slices[i])
		ses.Slices[i] = granted
	default:
		ses.Slices[i] = granted
	}
	s.putSession(ses)
	return Result{Session: ses.ID}, nil
}

func (c *GrantSlice) checkEpoch(s *State, ses *Session, i int) *Error {
	present := uint32(0)
	if i >= 0 {
		present = ses.Slices[i].Epoch
	}
	switch {
	case c.Slice.Epoch != s.NextEpoch(present) || c.Slice.Epoch == 0:
		return ErrStale.with("slice %d is at epoch %d, not before %d", c.Slice.Number, s.NextEpoch(present)-1, c.Slice.Epoch)
	case i < 0 && len(ses.Slices) >= s.maxSlices():
		return ErrExhausted.with("%d slices", s.maxSlices())
	case c.Retire && len(ses.Retiring) >= MaxRetiring:
		return ErrExhausted.with("%d retiring slices", MaxRetiring)
	}
	return nil
}

// insert keeps the slices ordered by number.
func (ses *Session) insert(sl Slice) {
	at, _ := slices.BinarySearchFunc(ses.Slices, sl, func(a, b Slice) int { return int(a.Number) - int(b.Number) })
	ses.Slices = slices.Insert(ses.Slices, at, sl)
}

func (c *MarkSlice) apply(s *State, _ entry) (Result, *Error) {
	ses, err := s.active(c.Session)
	if err != nil {
		return Result{}, err
	}
	if c.State != SliceUp && c.State != SliceVoid {
		return Result{}, ErrInvalid.with("a slice is marked up or void, not %q", c.State)
	}
	this := func(sl Slice) bool { return sl.Number == c.Number && sl.Epoch == c.Epoch }
	if i := slices.IndexFunc(ses.Slices, this); i >= 0 {
		if ses.Slices[i].State == SliceVoid && c.State == SliceUp {
			return Result{}, ErrStale.with("slice %d epoch %d is void", c.Number, c.Epoch)
		}
		marked := ses.copy()
		marked.Slices[i].mark(c.State, s.Tick)
		s.putSession(marked)
		return Result{Session: ses.ID}, nil
	}
	i := slices.IndexFunc(ses.Retiring, this)
	if i < 0 {
		return Result{}, ErrStale.with("slice %d has no epoch %d", c.Number, c.Epoch)
	}
	if c.State == SliceVoid {
		marked := ses.copy()
		marked.Retiring = slices.Delete(marked.Retiring, i, i+1)
		s.putSession(marked)
	}
	return Result{Session: ses.ID}, nil
}

// apply makes each mark, as far as it has an effect.
func (c *MarkSlices) apply(s *State, at entry) (Result, *Error) {
	if len(c.Marks) == 0 || len(c.Marks) > MaxMarks {
		return Result{}, ErrInvalid.with("%d marks, want 1 to %d", len(c.Marks), MaxMarks)
	}
	for i := range c.Marks {
		_, _ = c.Marks[i].apply(s, at) // what is refused changed nothing
	}
	return Result{}, nil
}

// apply changes nothing unless every weight is good and about a present epoch.
func (c *WeighSlices) apply(s *State, _ entry) (Result, *Error) {
	ses, err := s.active(c.Session)
	if err != nil {
		return Result{}, err
	}
	if len(c.Weights) == 0 || len(c.Weights) > len(ses.Slices) {
		return Result{}, ErrInvalid.with("%d weights for %d slices", len(c.Weights), len(ses.Slices))
	}
	changed := ses.copy()
	for _, w := range c.Weights {
		i := slices.IndexFunc(changed.Slices, func(sl Slice) bool { return sl.Number == w.Number && sl.Epoch == w.Epoch })
		switch {
		case i < 0 || changed.Slices[i].State == SliceVoid:
			return Result{}, ErrStale.with("slice %d has no epoch %d", w.Number, w.Epoch)
		case w.Weight == 0:
			return Result{}, ErrInvalid.with("slice %d without weight", w.Number)
		}
		changed.Slices[i].Weight = w.Weight
	}
	s.putSession(changed)
	return Result{Session: ses.ID}, nil
}

func (sl *Slice) mark(state SliceState, now Tick) {
	if sl.State != state {
		sl.State, sl.Since = one(state), now
	}
}

// voidSlices voids every slice epoch of an agent that is lost and forgets retiring
// ones.
func (s *State) voidSlices(agent identity.NodeID, lost func(Slice) bool) {
	for ses := range s.carriedBy(agent) {
		if !slices.ContainsFunc(ses.Slices, lost) && !slices.ContainsFunc(ses.Retiring, lost) {
			continue
		}
		ses = ses.copy()
		for i := range ses.Slices {
			if lost(ses.Slices[i]) {
				ses.Slices[i].mark(SliceVoid, s.Tick)
			}
		}
		ses.Retiring = slices.DeleteFunc(ses.Retiring, lost)
		s.putSession(ses)
	}
}

// carriedBy are the sessions of which an agent has, or had, slices.
func (s *State) carriedBy(agent identity.NodeID) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for c := range s.carriedOf(agent) {
			if !yield(s.Sessions.Get(c.session)) {
				return
			}
		}
	}
}
