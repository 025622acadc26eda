package registry

import (
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
func (t taker) own(l *Lease, may func(DeviceID) bool) bool {
	ending := func(ses *Session) bool { return ses.ID == l.Session }
	return l.Client == t.client && may(l.Device) && (l.idle() || slices.ContainsFunc(t.ends, ending))
}

// devices are whose leases the taker looks at first, in order: its own, then those
// of before its client's devices had names.
func (t taker) devices() []func(DeviceID) bool {
	return []func(DeviceID) bool{
		func(d DeviceID) bool { return d == t.device },
		DeviceID.IsZero,
	}
}

func anyDevice(DeviceID) bool { return true }

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
	own := func(may func(DeviceID) bool) (netip.Addr, bool) {
		return s.lowestLease(func(a netip.Addr, l *Lease) bool { return r.contains(a) && t.own(l, may) })
	}
	for _, may := range t.devices() {
		if a, ok := own(may); ok {
			return a, true
		}
	}
	if most := s.Policy.Sessions; most > 0 && s.held(r, t.client) >= most {
		if a, ok := own(anyDevice); ok {
			return a, true
		}
	}
	if len(s.Leases)+beside < MaxLeases {
		if a, ok := s.freshAddress(r, p.Next); ok {
			return a, true
		}
	}
	free := func(a netip.Addr, l *Lease) bool { return r.contains(a) && l.idle() && s.free(l) }
	if a, ok := s.lowestLease(free); ok {
		return a, true
	}
	return own(anyDevice)
}

// held is how many addresses of a range wait for the end of SAs of a client's sessions
// that are over: nobody else can have them.
func (s *State) held(r span, client string) (n int) {
	for a, l := range s.Leases {
		if l.Client == client && r.contains(a) && l.idle() && !s.free(l) {
			n++
		}
	}
	return n
}

func (l *Lease) idle() bool { return l.Session == (SessionID{}) }

// lowestLease is the lowest known address that fits.
func (s *State) lowestLease(fits func(netip.Addr, *Lease) bool) (lowest netip.Addr, ok bool) {
	for a, l := range s.Leases {
		if fits(a, l) && (!ok || a.Less(lowest)) {
			lowest, ok = a, true
		}
	}
	return lowest, ok
}

// freshAddress is the first address from next on, round the span, that was never
// leased. Every address passed over is a known lease or the skipped one, so the
// walk is no longer than those are many.
func (s *State) freshAddress(r span, next netip.Addr) (netip.Addr, bool) {
	if r.high.Less(r.low) {
		return netip.Addr{}, false
	}
	a := next
	for range len(s.Leases) + 3 {
		if !next.IsValid() || a.BitLen() != r.low.BitLen() || a.Less(r.low) || r.high.Less(a) {
			a, next = r.low, r.low
		}
		if s.Leases[a] == nil && a != r.skip {
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
func (s *State) takeLeases(p *Part, ses *Session) {
	for _, a := range ses.Leases {
		if s.Leases[a] == nil {
			p.passNext(a)
		}
		s.inherit(ses, s.Leases[a])
		s.Leases[a] = &Lease{Client: ses.Client, Device: ses.Device, Session: ses.ID}
	}
}

// releaseLeases starts the hold of a session's addresses.
func (s *State) releaseLeases(ses *Session) {
	for _, a := range ses.Leases {
		if l := s.Leases[a]; l != nil && l.Session == ses.ID {
			l.Session, l.Free, l.Holding = SessionID{}, s.holdUntil(), ses.Holding.over(s.holdUntil())
		}
	}
	ses.Holding = Holding{}
}

// disownLeases keeps a revoked name's addresses from whoever gets the name next:
// its old SAs may still run headless.
func (s *State) disownLeases(client string) {
	for _, l := range s.Leases {
		if l.Client == client && l.idle() {
			l.Client = ""
		}
	}
}

// LastLease is the lowest address that a device of the client could have back at
// once; its part is the one to open the device's next session in.
func (s *State) LastLease(client string, device DeviceID) (netip.Addr, bool) {
	t := taker{client: client, device: device}
	for _, ses := range s.Sessions {
		if ses.State == SessionActive && ses.Client == client && !device.IsZero() && ses.Device == device {
			t.ends = append(t.ends, ses)
		}
	}
	for _, may := range t.devices() {
		if a, ok := s.lowestLease(func(_ netip.Addr, l *Lease) bool { return t.own(l, may) }); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}
