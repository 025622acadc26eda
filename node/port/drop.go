package port

import "sync/atomic"

// Reason says why a connection was closed without having been handed on.
type Reason uint8

// The reasons. Zero means none.
const (
	ReasonBusy      Reason = iota + 1 // no slot for its handshake within QueueTimeout
	ReasonCrowded                     // no room for more without proof, and its source had most
	ReasonOvertaken                   // its handshake took longer than Grace while others waited
	ReasonFull                        // MaxConnections are held
	ReasonSlow                        // no whole hello within HelloTimeout
	ReasonOversize                    // no whole hello within MaxHello bytes
	ReasonMalformed                   // not a ClientHello, or hung up inside it
	ReasonVersion                     // does not offer TLS 1.3
	ReasonALPN                        // no ALPN, more than one, or one without a route
	ReasonLoop                        // relayed to us, but its ALPN does not end here
	ReasonHandshake                   // the TLS handshake failed
	ReasonBacklog                     // its Listener did not keep up
	ReasonClosing                     // the port is closing
	ReasonWait                        // told to come again, for its turn was not soon
	ReasonFiles                       // this process can open no more but those set aside for nodes
	reasonEnd
)

var reasonNames = [reasonEnd]string{
	ReasonBusy: "busy", ReasonCrowded: "crowded", ReasonOvertaken: "overtaken",
	ReasonFull: "full", ReasonSlow: "slow",
	ReasonOversize: "oversize", ReasonMalformed: "malformed", ReasonVersion: "version",
	ReasonALPN: "alpn", ReasonLoop: "loop", ReasonHandshake: "handshake",
	ReasonBacklog: "backlog", ReasonClosing: "closing", ReasonWait: "wait", ReasonFiles: "files",
}

// String is the reason's name in metrics and logs.
func (r Reason) String() string {
	if r == 0 || r >= reasonEnd {
		return "none"
	}
	return reasonNames[r]
}

// Stats counts connections since the port opened. While no handshake is under
// way, Accepted = Handled + Relayed + the sum of Dropped (I8).
type Stats struct {
	Accepted, Handled, Relayed uint64
	Dropped                    map[Reason]uint64 // only reasons that occurred
	// Unproven were handed on, and closed for want of room before anybody had
	// said who they are.
	Unproven uint64
}

type counts struct {
	accepted, handled, relayed atomic.Uint64
	unproven                   atomic.Uint64
	dropped                    [reasonEnd]atomic.Uint64
}

// Stats returns the counters.
func (p *Port) Stats() Stats {
	s := Stats{
		Accepted: p.counts.accepted.Load(),
		Handled:  p.counts.handled.Load(),
		Relayed:  p.counts.relayed.Load(),
		Unproven: p.counts.unproven.Load(),
		Dropped:  make(map[Reason]uint64),
	}
	for r := range reasonEnd {
		if n := p.counts.dropped[r].Load(); n > 0 {
			s.Dropped[r] = n
		}
	}
	return s
}
