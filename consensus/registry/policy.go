package registry

import "slices"

func (c *PutPolicy) apply(s *State, _ entry) (Result, *Error) {
	policy, err := c.Policy.checked()
	if err != nil {
		return Result{}, err
	}
	// A node that is out of reach now goes on by the policy it knows.
	s.HeadlessFloor = max(s.HeadlessFloor, s.Tick+Tick(s.Policy.Headless))
	policy.Version = s.Policy.Version + 1
	s.Policy = policy
	return Result{}, nil
}

// checked is the policy with its defaults filled in.
func (p Policy) checked() (Policy, *Error) {
	p.Prefixes = slices.Clone(p.Prefixes)
	if p.Headless == 0 {
		p.Headless = DefaultHeadless
	}
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
	case p.Slices < 0 || p.Slices > MaxSlices:
		return p, ErrInvalid.with("%d slices, at most %d", p.Slices, MaxSlices)
	case !p.Mode.valid():
		return p, ErrInvalid.with("mode %q", p.Mode)
	}
	return p, checkPrefixes(p.Prefixes)
}

func (m Mode) valid() bool {
	return slices.Contains([]Mode{ModeAuto, ModeBurst, ModePacket, ModeFlowlet, ModePin}, m)
}
