package control

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Keys of the policy that an operator may set.
const (
	KeySessions = "sessions-per-client" // how many sessions one client may have
	KeyHeadless = "headless"            // how long data runs without word from an arbiter
)

// PolicyRequest changes one key of the policy.
type PolicyRequest struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Policy is what the mesh allows, and how much of its pool is given away.
type Policy struct {
	Schema    string          `json:"schema"`
	Version   uint64          `json:"version"`
	Headless  time.Duration   `json:"headless_ns"` // in force
	Overload  string          `json:"overload"`
	Bandwidth uint64          `json:"bandwidth"`           // bit/s assumed when nothing is said
	Slices    int             `json:"slices"`              // of one session; 0: session.DefaultSlices
	Sessions  int             `json:"sessions_per_client"` // 0: unlimited
	Mode      string          `json:"mode"`
	Modes     []registry.Mode `json:"modes,omitempty"`
	Suites    []uint16        `json:"suites,omitempty"`
	Prefixes  []netip.Prefix  `json:"prefixes"`
	DNS       []netip.Addr    `json:"dns,omitempty"`
	Search    []string        `json:"search,omitempty"`
	HandOn    string          `json:"hand_on,omitempty"`
	Direct    bool            `json:"direct,omitempty"`
	Pool      []PoolRow       `json:"pool"`
}

// PoolRow is the use of one part of the pool, in one family.
type PoolRow struct {
	Prefix netip.Prefix  `json:"prefix"`
	Size   int           `json:"size"`
	Free   int           `json:"free"`
	Open   int           `json:"in_sessions"`
	Held   int           `json:"held"`                    // of sessions that are over, until all their agents said so
	Until  time.Duration `json:"held_until_ns,omitempty"` // the first of them at the latest
}
