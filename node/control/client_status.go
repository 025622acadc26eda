package control

import (
	"net/netip"
	"time"
)

// ClientStatus is what a running client knows of its session, measured at call time.
type ClientStatus struct {
	Schema   string          `json:"schema"`
	Health   string          `json:"health"` // ok, degraded or closed
	Problems []string        `json:"problems"`
	User     string          `json:"user"`
	Session  string          `json:"session"` // empty before the first welcome
	Leases   []netip.Addr    `json:"leases"`
	Mode     string          `json:"mode"`   // how runs are spread at present
	MTU      int             `json:"mtu"`    // of inner packets
	Source   netip.Addr      `json:"source"` // this host's address towards the gateway
	Gateways []ClientGateway `json:"gateways"`
	// Local are this host's networks that overlap with what the mesh pushed.
	Local   []ClientLocal `json:"local,omitempty"`
	Control bool          `json:"control"`          // the connection to the arbiter is open
	Parked  bool          `json:"parked,omitempty"` // it is not connected, and comes when its agents call it
	WordAge time.Duration `json:"arbiter_word_age_ns"`
	Slices  []ClientSlice `json:"slices"`
	// Delivered and Dropped count packets by way and by reason; what the kernel
	// kept out or had no room for is "kernel".
	Delivered map[string]uint64 `json:"delivered"`
	Dropped   map[string]uint64 `json:"dropped"`
	// PutBack counts what other software removed from this host and is back, by kind.
	PutBack map[string]uint64 `json:"put_back,omitempty"`
	// Closed is set where no client runs, and one left this host closed.
	Closed *ClientClosed `json:"closed,omitempty"`
}

// What becomes of a local network beside the tunnel.
const (
	WayHidden   = "hidden"
	WayExcepted = "excepted"
	WayOwn      = "own" // reached by itself: it is of a bridge on this host
)

// ClientLocal is a network that the client's host is attached to.
type ClientLocal struct {
	Network netip.Prefix `json:"network"`
	Device  string       `json:"device"`
	Pushed  netip.Prefix `json:"pushed"` // that overlaps with it
	Way     string       `json:"way"`
	Remedy  string       `json:"remedy,omitempty"` // of a hidden one
}

// ClientClosed is what a client left that ended though its user did not end it.
type ClientClosed struct {
	Since    time.Time      `json:"since,omitzero"`   // zero: it was killed
	Why      string         `json:"why,omitempty"`    // empty: the same
	Prefixes []netip.Prefix `json:"prefixes"`         // blocked until connect or disconnect
	By       []string       `json:"by"`               // what blocks them: routes, fence; empty: other software removed both
	Unseen   bool           `json:"unseen,omitempty"` // whoever asks may not see all of it
}

// ClientGateway is one gateway that the client knows.
type ClientGateway struct {
	Address netip.AddrPort `json:"address"`
	// Transport is udp or tls where packets go, and empty where none do.
	Transport string `json:"transport"`
	InUse     bool   `json:"in_use"`
	Control   bool   `json:"control"` // the arbiter is reached through it
}

// ClientSlice is one slice at the client.
type ClientSlice struct {
	Number    uint8          `json:"number"`
	Epoch     uint32         `json:"epoch"`
	Agent     string         `json:"agent"`           // node ID, shortened
	State     string         `json:"state"`           // keying, up, silent, lost or ending
	Direct    netip.AddrPort `json:"direct,omitzero"` // the agent's own address, past the gateway
	Spare     bool           `json:"spare"`
	Weight    uint32         `json:"weight"`
	RTT       time.Duration  `json:"rtt_ns"`       // 0 before the first answer
	Heard     time.Duration  `json:"heard_ns"`     // ago; negative: never
	Datagram  int            `json:"packet_limit"` // largest packet in one datagram, as measured
	AgentLoad float64        `json:"agent_load"`   // 0..1
	In        uint64         `json:"bytes_in"`
	Out       uint64         `json:"bytes_out"`
}
