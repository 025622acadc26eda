package registry

import (
	"iter"
	"net/netip"
	"slices"
)

// span is the range of addresses of a part that clients may get.
type span struct {
	low, high netip.Addr
	skip      netip.Addr // the part's inside address, if it lies within
}

func (r span) contains(a netip.Addr) bool {
	return r.low.BitLen() == a.BitLen() && !a.Less(r.low) && !r.high.Less(a) && a != r.skip
}

// leasable is a range without its first and last address, the pool's last and
// the pool's reserved first ones. It may be empty: low beyond high.
func (s *State) leasable(p Range) span {
	r := span{low: p.Prefix.Addr().Next(), high: lastAddress(p.Prefix).Prev(), skip: p.Inside}
	for _, pool := range s.Cluster.Pool {
		if !pool.Contains(p.Prefix.Addr()) {
			continue
		}
		first := pool.Addr()
		for range ReservedLeases {
			first = first.Next()
		}
		if r.low.Less(first) {
			r.low = first
		}
	}
	return r
}

// lastAddress is the address with every host bit set: broadcast in IPv4.
func lastAddress(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// taker is a session in search of its addresses. Those of the sessions that it ends
// are its own.
type taker struct {
	client string
	device DeviceID
	ends   []*Session
}

// own reports whether the taker's client had the lease last and no other session has
// it; may says on which of its devices.
func (t taker) own(l *Lease, on devices) bool {
	ending := func(ses *Session) bool { return ses.ID == l.Session }
	return l.Client == t.client && on.has(l.Device) && (l.idle() || slices.ContainsFunc(t.ends, ending))
}

// devices are one device of a client, or all.
type devices struct {
	one DeviceID
	all bool
}

func (d devices) has(device DeviceID) bool { return d.all || d.one == device }

// devices are whose leases the taker looks at first, in order: its own, then those
// of before its client's devices had names.
func (t taker) devices() []devices { return []devices{{one: t.device}, {}} }

// chooseLeases finds an address of each family of the part for the taker, or says
// which range has none. It takes nothing yet: see takeLeases.
func (s *State) chooseLeases(p *Part, t taker) (leases []netip.Addr, full netip.Prefix) {
	for _, r := range p.Ranges() {
		lease, ok := s.chooseLease(r, t, len(leases))
		if !ok {
			return nil, r.Prefix
		}
		leases = append(leases, lease)
	}
	return leases, netip.Prefix{}
}

// chooseLease finds an address of the range for the taker, who has got some others
// beside it: the one that its device had, else one nobody had, else the lowest whose
// hold is over (I13), else what another device of its client left. That comes before
// what others could have once the client has left as many as it may have sessions.
func (s *State) chooseLease(p Range, t taker, beside int) (netip.Addr, bool) {
	r := s.leasable(p)
	for _, on := range t.devices() {
		if a, ok := s.lowestOwn(t, r.contains, on); ok {
			return a, true
		}
	}
	if most := s.Policy.Sessions; most > 0 && s.held(r, t.client) >= most {
		if a, ok := s.lowestOwn(t, r.contains, devices{all: true}); ok {
			return a, true
		}
	}
	if s.Leases.Len()+beside < s.Room().Leases && s.known(r) < r.size() {
		if a, ok := s.freshAddress(r, p.Next); ok {
			return a, true
		}
	}
	for a := range s.index.idle.From(r.low) {
		if r.high.Less(a) {
			break
		}
		if r.contains(a) && s.free(s.Leases.Get(a)) {
			return a, true
		}
	}
	return s.lowestOwn(t, r.contains, devices{all: true})
}

// held is how many addresses of a range wait for the end of SAs of a client's sessions
// that are over: nobody else can have them.
func (s *State) held(r span, client string) (n int) {
	for a, l := range s.leftBy(client, devices{all: true}) {
		if r.contains(a) && !s.free(l) {
			n++
		}
	}
	return n
}

func (l *Lease) idle() bool { return l.Session == (SessionID{}) }

// lowestOwn is the lowest address among those in question that the taker may have
// back: from sessions that are over, or from those that it ends.
func (s *State) lowestOwn(t taker, fits func(netip.Addr) bool, on devices) (lowest netip.Addr, ok bool) {
	note := func(a netip.Addr, l *Lease) {
		if fits(a) && t.own(l, on) && (!ok || a.Less(lowest)) {
			lowest, ok = a, true
		}
	}
	for a, l := range s.leftBy(t.client, on) {
		note(a, l)
	}
	for _, ses := range t.ends {
		for _, a := range ses.Leases {
			if l := s.Leases.Get(a); l != nil {
				note(a, l)
			}
		}
	}
	return lowest, ok
}

// known is how many addresses of a span somebody has or had.
func (s *State) known(r span) int {
	n := s.Leases.Rank(r.high) - s.Leases.Rank(r.low)
	if s.Leases.Has(r.high) {
		n++
	}
	return n
}

// leftBy are the leases that a client had last and nobody has now.
func (s *State) leftBy(client string, on devices) iter.Seq2[netip.Addr, *Lease] {
	return func(yield func(netip.Addr, *Lease) bool) {
		for l := range s.index.left.From(left{client: client, device: on.one}) {
			if l.client != client || !on.has(l.device) || !yield(l.lease, s.Leases.Get(l.lease)) {
				return
			}
		}
	}
}

// freshAddress is the first address from next on, round the span, that was never
// leased. Every address passed over is a known lease or the skipped one, so the
// walk is no longer than those are many.
func (s *State) freshAddress(r span, next netip.Addr) (netip.Addr, bool) {
	if r.high.Less(r.low) {
		return netip.Addr{}, false
	}
	a := next
	for range s.Leases.Len() + 3 {
		if !next.IsValid() || a.BitLen() != r.low.BitLen() || a.Less(r.low) || r.high.Less(a) {
			a, next = r.low, r.low
		}
		if !s.Leases.Has(a) && a != r.skip {
			return a, true
		}
		a = a.Next()
	}
	return netip.Addr{}, false
}

// holdUntil is when an address or index given up now may go to somebody else:
// when the last node that might still run an SA for it has stopped (I13).
func (s *State) holdUntil() Tick {
	return max(s.Tick+Tick(s.Headless()), s.HeadlessFloor) + HoldMargin
}

// takeLeases gives a session its addresses, and with them whoever may still run an
// SA for one. The search for the next one that nobody had goes on behind them.
func (s *State) takeLeases(part int, ses *Session) {
	s.Parts = slices.Clone(s.Parts)
	for _, a := range ses.Leases {
		before := s.Leases.Get(a)
		if before == nil {
			s.Parts[part].passNext(a)
		}
		s.inherit(ses, before)
		s.putLease(a, &Lease{Client: ses.Client, Device: ses.Device, Session: ses.ID})
	}
}

// releaseLeases starts the hold of a session's addresses.
func (s *State) releaseLeases(ses *Session) {
	for _, a := range ses.Leases {
		if l := s.Leases.Get(a); l != nil && l.Session == ses.ID {
			released := *l
			released.Session, released.Free = SessionID{}, s.holdUntil()
			released.Holding = ses.Holding.over(s.holdUntil())
			s.putLease(a, &released)
		}
	}
	ses.Holding = Holding{}
}

// disownLeases keeps a revoked name's addresses from whoever gets the name next:
// its old SAs may still run headless.
func (s *State) disownLeases(client string) {
	for a, l := range s.leftBy(client, devices{all: true}) {
		disowned := *l
		disowned.Client = ""
		s.putLease(a, &disowned)
	}
}

// LastLease is the lowest address that a device of the client could have back at
// once; its part is the one to open the device's next session in.
func (s *State) LastLease(client string, device DeviceID) (netip.Addr, bool) {
	t := taker{client: client, device: device}
	if !device.IsZero() {
		t.ends = slices.Collect(s.livingOn(client, device))
	}
	anywhere := func(netip.Addr) bool { return true }
	for _, on := range t.devices() {
		if a, ok := s.lowestOwn(t, anywhere, on); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}
