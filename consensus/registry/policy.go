package registry

import "slices"

func (c *PutPolicy) apply(s *State, _ entry) (Result, *Error) {
	policy, err := c.Policy.checked(s.Room())
	if err != nil {
		return Result{}, err
	}
	if c.Over != 0 && c.Over != s.Policy.Version {
		return Result{}, ErrStale.with("the policy is at version %d, not %d", s.Policy.Version, c.Over)
	}
	s.raiseHeadlessFloor()
	policy.Version = s.Policy.Version + 1
	s.Policy = policy
	s.touchMesh()
	return Result{}, nil
}

func (c *CountVoters) apply(s *State, _ entry) (Result, *Error) {
	if c.Voters < 1 || c.Voters > MaxVoters {
		return Result{}, ErrInvalid.with("%d voters, want 1 to %d", c.Voters, MaxVoters)
	}
	s.raiseHeadlessFloor()
	s.Voters = c.Voters
	s.touchMesh()
	return Result{}, nil
}

// Headless is how many seconds data runs without word from an arbiter: what the
// policy says, else HeadlessAlone while one node votes, else DefaultHeadless.
// Voters that were never counted are taken for one: the longer time is the one
// that gives no address away too early.
func (s *State) Headless() uint64 {
	switch {
	case s.Policy.Headless != 0:
		return s.Policy.Headless
	case s.Voters <= 1:
		return HeadlessAlone
	}
	return DefaultHeadless
}

// PolicyInForce is the policy as nodes go by it: with the headless time of now, and
// with hand-on sealed as long as strangers reach the inside interface of a member.
// There they could send in the name of any member.
func (s *State) PolicyInForce() Policy {
	p := s.Policy
	p.Headless = s.Headless()
	for _, n := range s.Nodes {
		if n != nil && !n.Removed && n.exposed() {
			p.HandOn = HandOnSealed
		}
	}
	return p
}

// ParkedWord is after how many seconds agents say again that they hear a client which is
// parked, for a headless time that is longer: its session lives by their word.
func ParkedWord(headless uint64) uint64 { return min(headless/3, MaxParkedWord) }

// raiseHeadlessFloor goes before a change of the headless time: a node that is
// out of reach now goes on by the one it knows.
func (s *State) raiseHeadlessFloor() {
	s.HeadlessFloor = max(s.HeadlessFloor, s.Tick+Tick(s.Headless()))
}

// checked is the policy with its defaults filled in.
func (p Policy) checked(room Room) (Policy, *Error) {
	p.Prefixes, p.Suites, p.Modes = slices.Clone(p.Prefixes), slices.Clone(p.Suites), slices.Clone(p.Modes)
	p.DNS, p.Search = slices.Clone(p.DNS), slices.Clone(p.Search)
	if p.Overload == "" {
		p.Overload = OverloadAbsorb
	}
	if p.Mode == "" {
		p.Mode = ModeAuto
	}
	switch {
	case p.Headless > MaxHeadless:
		return p, ErrInvalid.with("headless of %d s, at most %d", p.Headless, MaxHeadless)
	case p.Overload != OverloadAbsorb && p.Overload != OverloadDeny:
		return p, ErrInvalid.with("overload is absorb or deny, not %q", p.Overload)
	case p.Sessions < 0 || p.Sessions > room.Sessions:
		return p, ErrInvalid.with("%d sessions of a client, at most %d", p.Sessions, room.Sessions)
	case p.Slices < 0 || p.Slices > MaxSlices:
		return p, ErrInvalid.with("%d slices, at most %d", p.Slices, MaxSlices)
	case !p.Mode.valid():
		return p, ErrInvalid.with("mode %q", p.Mode)
	case slices.ContainsFunc(p.Modes, func(m Mode) bool { return !m.valid() }) || len(p.Modes) > MaxModes:
		return p, ErrInvalid.with("modes %v", p.Modes)
	case !p.Allows(p.Mode):
		return p, ErrInvalid.with("mode %q is the default, but not among %v", p.Mode, p.Modes)
	case p.HandOn != "" && p.HandOn != HandOnClear && p.HandOn != HandOnSealed:
		return p, ErrInvalid.with("hand-on is clear or sealed, not %q", p.HandOn)
	}
	if err := checkSuites(p.Suites); err != nil {
		return p, err
	}
	if err := checkNames(p.DNS, p.Search); err != nil {
		return p, err
	}
	return p, checkNetworks("prefixes", MaxPrefixes, p.Prefixes)
}

// checkSuites takes numbers that this build does not know: a newer agent may.
func checkSuites(suites []uint16) *Error {
	if len(suites) > MaxSuites {
		return ErrInvalid.with("%d suites, at most %d", len(suites), MaxSuites)
	}
	for i, s := range suites {
		if s == 0 || slices.Contains(suites[:i], s) {
			return ErrInvalid.with("suite %d", s)
		}
	}
	return nil
}

// newer reports whether the policy says what only version 3 of the codecs knows.
func (p Policy) newer() bool {
	return len(p.Suites)+len(p.DNS)+len(p.Search)+len(p.Modes) > 0 || p.HandOn == HandOnSealed || p.Direct
}

// Allows reports whether a session may be in a mode.
func (p Policy) Allows(m Mode) bool { return len(p.Modes) == 0 || slices.Contains(p.Modes, m) }

// Modes are all there are.
func Modes() []Mode { return []Mode{ModeAuto, ModeBurst, ModePacket, ModeFlowlet, ModePin} }

func (m Mode) valid() bool { return slices.Contains(Modes(), m) }
