package slots

import (
	"net/netip"
	"time"
)

// Memory is which addresses proved themselves lately, and as what. It forgets
// after Remembered, and holds two generations of MaxSources at most. The zero
// value is empty.
type Memory struct {
	young, old map[netip.Prefix]proof
}

type proof struct {
	class Class
	at    time.Duration
}

// Remember notes that somebody at this address proved to be a Member or Known. Of
// an IPv6 client its /64 counts, for it changes its address within; of a node
// the address alone.
func (m *Memory) Remember(a netip.Addr, class Class, now time.Duration) {
	key := keyOf(a, class)
	if !key.IsValid() {
		return
	}
	if _, known := m.young[key]; !known && len(m.young) >= MaxSources {
		m.old, m.young = m.young, nil
	}
	if m.young == nil {
		m.young = make(map[netip.Prefix]proof)
	}
	if have, ok := m.find(key, now); ok && have.class == Member {
		class = Member // a node's address stays one while clients share it
	}
	m.young[key] = proof{class, now}
}

// Class is what an address was, or Stranger.
func (m *Memory) Class(a netip.Addr, now time.Duration) Class {
	for _, class := range []Class{Member, Known} {
		if have, ok := m.find(keyOf(a, class), now); ok {
			return have.class
		}
	}
	return Stranger
}

func (m *Memory) find(key netip.Prefix, now time.Duration) (proof, bool) {
	have, ok := m.young[key]
	if !ok {
		have, ok = m.old[key]
	}
	if !ok || now-have.at > Remembered {
		return proof{}, false
	}
	return have, true
}

func keyOf(a netip.Addr, class Class) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if class != Member && a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}
