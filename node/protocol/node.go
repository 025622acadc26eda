package protocol

import (
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Node is a message of the stream between a node and the arbiter (ALPN
// "mc-stream/1"); exactly one field is set.
type Node struct {
	Hello     *NodeHello `json:"hello,omitempty"`     // N→L, first
	Prekeys   *Prekeys   `json:"prekeys,omitempty"`   // N→L, P0
	Load      *Load      `json:"load,omitempty"`      // N→L
	Ack       *SliceAck  `json:"ack,omitempty"`       // N→L, answer to Grant
	Up        *SliceRef  `json:"up,omitempty"`        // N→L, first valid ESP seen
	Gone      *SliceRef  `json:"gone,omitempty"`      // N→L, the agent freed the slice
	Silent    *Silent    `json:"silent,omitempty"`    // N→L, a node does not answer probes
	TakeOver  *TakeOver  `json:"takeover,omitempty"`  // N→L, a second has taken a part
	Violation *Violation `json:"violation,omitempty"` // N→L, bad packets were dropped
	Usage     *Usage     `json:"usage,omitempty"`     // N→L, bytes moved per session
	Leave     *Leave     `json:"leave,omitempty"`     // N→L, the node wants to leave
	Drain     *Drain     `json:"drain,omitempty"`     // N→L, the node wants no work, or work again
	Link      *Link      `json:"link,omitempty"`      // N→L, the node wants an SA with another
	Replica   *Replica   `json:"replica,omitempty"`   // N→L, with each load, of a node that keeps the log
	Freed     *Sessions  `json:"freed,omitempty"`     // N→L, answer to Ended: it runs nothing of them
	Condition *Condition `json:"condition,omitempty"` // N→L, whether the node forwards as it should
	Inside    *Inside    `json:"inside,omitempty"`    // N→L, who reaches its inside interface has changed

	Redirect *Redirect  `json:"redirect,omitempty"` // L→N, not the arbiter: ask there
	Fence    *Fence     `json:"fence,omitempty"`    // L→N, first
	Trunks   bool       `json:"trunks,omitempty"`   // L→N, with Fence: what is relayed may come in a trunk
	Calls    bool       `json:"calls,omitempty"`    // L→N, with Fence: the arbiter knows of parked sessions
	View     *View      `json:"view,omitempty"`     // L→N, full once, then changes
	Grant    *Grant     `json:"grant,omitempty"`    // L→N, a slice for this agent
	Offer    *LinkOffer `json:"offer,omitempty"`    // L→N, answer to Link; the other gets a Grant
	Revoke   *Revoke    `json:"revoke,omitempty"`   // L→N, free a slice
	Unused   *Unused    `json:"unused,omitempty"`   // L→N, prekeys that are granted to nobody
	Ended    *Sessions  `json:"ended,omitempty"`    // L→N, these are over: say when nothing of them runs
	Call     *Sessions  `json:"call,omitempty"`     // L→N, have the parked clients of these come
	Standby  *Standby   `json:"standby,omitempty"`  // L→N, keep a copy of the log
	Alive    *Alive     `json:"alive,omitempty"`    // L→N, word from the arbiter
	Known    *Known     `json:"known,omitempty"`    // L→N, how far the log is committed
	Left     *Leave     `json:"left,omitempty"`     // L→N, the node is no longer a member

	Superseded *Superseded `json:"superseded,omitempty"` // L→N, another process has this node's key; N→L, heard
	Assure     *Assure     `json:"assure,omitempty"`     // N→L, are you still there; L→N, the same as it came

	once *once // of one that goes to many
}

// Assure shows that an arbiter speaks now, after what it said before, and that nothing
// of it waited on the way since a link failed. Older arbiters do not answer.
type Assure struct {
	Number uint64 `json:"number"` // the asker's
}

// Superseded says that a newer process with the same key has taken the node's place:
// the key was copied. Whoever is told stops for good and says so.
type Superseded struct{}

// Inside is what NodeHello says of the inside interface, said anew.
type Inside struct {
	Exposed bool `json:"exposed"` // strangers reach it
}

// NodeHello opens a stream.
type NodeHello struct {
	Boot     identity.BootID `json:"boot"`
	Version  string          `json:"version"`
	Outer    netip.AddrPort  `json:"outer"`
	Other    netip.AddrPort  `json:"other,omitzero"` // of the other family
	Inside   netip.Addr      `json:"inside"`
	Networks []netip.Prefix  `json:"networks,omitempty"` // of the inside interface
	Capacity uint32          `json:"capacity"`           // thousandths of a CPU
	Mbit     uint32          `json:"mbit"`
	Exposed  bool            `json:"exposed,omitempty"` // strangers reach the inside interface
	Held     []SliceRef      `json:"held"`              // slices with living keys in this process
	Standby  bool            `json:"standby"`
	Judges   bool            `json:"judges,omitempty"` // holds clients to View.Rules
	Beats    bool            `json:"beats,omitempty"`  // knows beats, so an arbiter may send some
	Calls    bool            `json:"calls,omitempty"`  // knows parked clients, and calls them
	// Reads is the newest version of the registry's commands that the node reads; 0 is
	// said by those that do not know Ended.
	Reads byte `json:"reads,omitempty"`
	// Known is the furthest that the node was told of; nil: nothing, or it knows no such word.
	Known *Known `json:"known,omitempty"`
	// Condition is nil of a node that is whole, or knows of no such word.
	Condition *Condition `json:"condition,omitempty"`
}

// Soundness is a node's judgement of itself. What a reader does not know counts
// as Broken.
type Soundness string

// The three. A node is mended for a minute after its last fault.
const (
	Whole  Soundness = "whole"
	Mended Soundness = "mended"
	Broken Soundness = "broken"
)

// Condition says whether the sender forwards as it should, and what is wrong.
type Condition struct {
	Is     Soundness `json:"is"`
	Faults []string  `json:"faults,omitempty"` // what made it broken, for people
}

// Sessions names sessions, as many as an arbiter asks about at a time.
type Sessions struct {
	Sessions []registry.SessionID `json:"sessions"`
}

// Unused names prekeys that the arbiter can grant no more: to be replaced by others.
type Unused struct {
	SPIs []uint32 `json:"spis"`
}

// Prekeys adds single-use prekeys to the arbiter's pool for this boot.
type Prekeys struct {
	Fresh bool     `json:"fresh,omitempty"` // forget all given before: they near their end
	Keys  [][]byte `json:"keys"`            // mka.SignedPrekey
}

// Load is what the sender's host has to do, and how it is.
type Load struct {
	Used float64 `json:"used"`           // own CPU plus foreign use over the capacity, 0..1
	Wall int64   `json:"wall,omitempty"` // its wall clock, Unix milliseconds; 0: not told
	Disk string  `json:"disk,omitempty"` // what is wrong with the disk of its data directory
	// Lack is why its process can open no more connections, and what to do.
	Lack string `json:"lack,omitempty"`
}

// Clock is all that is said over ALPN "mc-clock/1": what time who was asked has, on the
// wall and in the mesh's history. Who asked may say the same, if he knows of a later incarnation.
type Clock struct {
	Wall  int64  `json:"wall"`            // Unix milliseconds
	Known *Known `json:"known,omitempty"` // the furthest that it was told of; nil: nothing
}

// Replica is the sender's copy of the log, and whom it could talk to about it.
type Replica struct {
	Term    uint64 `json:"term"`    // the newest that it knows
	Applied uint64 `json:"applied"` // index of the newest entry that its registry has
	// Unreached are servers of the log whose Raft port does not answer the sender.
	Unreached []identity.NodeID `json:"unreached,omitempty"`
}

// SliceAck is an agent's accept or refusal of a grant.
type SliceAck struct {
	Slice  SliceRef `json:"slice"`
	Ok     bool     `json:"ok"`
	Reason string   `json:"reason,omitempty"`
}

// Silent reports a node that stopped answering the sender's probes, or answers again.
type Silent struct {
	Node   identity.NodeID `json:"node"`
	Silent bool            `json:"silent"`
}

// TakeOver reports that the sender holds the part's inside address.
type TakeOver struct {
	Prefix netip.Prefix `json:"prefix"`
	Epoch  uint64       `json:"epoch"` // the part's epoch it acted on
	// Asked says that the egress still asks the sender, though it does not answer.
	Asked bool `json:"asked,omitempty"`
}

// Violation is a rate-limited flag for bad packets (patent: "a security
// violation flag set for the server to see").
type Violation struct {
	Reason string     `json:"reason"`
	Source netip.Addr `json:"source"`
	Count  uint64     `json:"count"`
}

// Usage is bytes moved since the slice began, both ways.
type Usage struct {
	Slices []SliceUsage `json:"slices"`
	// Changes: of slices that are not named it is as it was. Without it they are gone.
	Changes bool `json:"changes,omitempty"`
}

// SliceUsage is the bytes of one slice at its agent.
type SliceUsage struct {
	Slice SliceRef `json:"slice"`
	In    uint64   `json:"in"`
	Out   uint64   `json:"out"`
	// Refused is packets, both ways, that the client may not send or get.
	Refused uint64 `json:"refused,omitempty"`
	// Quiet is for how many seconds nothing of the client was heard, this one
	// included; 0 is said by builds that do not tell.
	Quiet uint64 `json:"quiet,omitempty"`
	// Parked is the mark under which its client says that it is parked; 0: it does not.
	Parked uint64 `json:"parked,omitempty"`
}

// Drain asks to take the sender's work away, or to give it some again.
type Drain struct {
	On bool `json:"on"`
}

// Leave asks for, or confirms, the removal of the node.
type Leave struct {
	Reason string `json:"reason,omitempty"`
}

// Redirect names the arbiter as the sender knows it; zero when it knows none.
type Redirect struct {
	Node  identity.NodeID `json:"node"`
	Outer netip.AddrPort  `json:"outer"`
	Other netip.AddrPort  `json:"other,omitzero"`
}

// Fence orders arbiters: a node obeys the highest it has seen.
type Fence struct {
	Incarnation uint64 `json:"incarnation"`
	Term        uint64 `json:"term"`
}

// View is what a node needs to know to forward: rows to add or replace and
// keys to drop. A full view replaces everything.
type View struct {
	Full      bool                 `json:"full"`
	Nodes     []NodeRow            `json:"nodes,omitempty"`
	Parts     []registry.Part      `json:"parts,omitempty"`
	Routes    []RouteRow           `json:"routes,omitempty"`
	Unroutes  []registry.SessionID `json:"unroutes,omitempty"`
	Judges    bool                 `json:"judges,omitempty"` // with Full: Rules say what clients may reach
	Rules     []RuleRow            `json:"rules,omitempty"`
	Unrules   []registry.SessionID `json:"unrules,omitempty"`
	Changes   bool                 `json:"changes,omitempty"` // with Full: Usage may hold what changed alone
	Slices    []SliceRef           `json:"slices,omitempty"`  // with Full: all this node is to hold
	Pool      []netip.Prefix       `json:"pool,omitempty"`
	Egress    registry.EgressKind  `json:"egress,omitempty"`
	Policy    *registry.Policy     `json:"policy,omitempty"`
	ProbeKey  []byte               `json:"probe_key,omitempty"` // authenticates node probes
	Arbiter   identity.NodeID      `json:"arbiter,omitzero"`
	GossipKey []byte               `json:"gossip_key,omitempty"`
	// Keep are parts whose takeover by the reader is not confirmed: the egress
	// lives, and the reader gives their addresses back.
	Keep []netip.Prefix `json:"keep,omitempty"`
}

// NodeRow is one member as the arbiter knows it.
type NodeRow struct {
	ID      identity.NodeID    `json:"id"`
	Key     identity.PublicKey `json:"key"`
	Name    string             `json:"name"`
	Index   identity.Index     `json:"index"`
	Outer   netip.AddrPort     `json:"outer"`
	Other   netip.AddrPort     `json:"other,omitzero"` // of the other family
	Inside  netip.Addr         `json:"inside"`
	May     registry.Roles     `json:"may"`
	Is      registry.Roles     `json:"is"`
	Voter   bool               `json:"voter"`
	Up      bool               `json:"up"` // its stream is open
	Boot    identity.BootID    `json:"boot,omitzero"`
	Removed bool               `json:"removed,omitempty"`
	Fault   string             `json:"fault,omitempty"`   // why it says that it does not forward
	Drained bool               `json:"drained,omitempty"` // it gets no work
	Disk    string             `json:"disk,omitempty"`    // what is wrong with its disk, as it says
	Lack    string             `json:"lack,omitempty"`    // why it can open no more connections, as it says
	Clock   int64              `json:"clock,omitempty"`   // seconds that its wall clock is ahead, if that is wrong
}

// Outers are the addresses where the node is reached.
func (r NodeRow) Outers() []netip.AddrPort { return registry.Outers(r.Outer, r.Other) }

// ReachedFrom are those of them that a node with some own ones has the family
// for; all when none fits, for it may know better than it says.
func (r NodeRow) ReachedFrom(own []netip.AddrPort) (fit []netip.AddrPort) {
	for _, at := range r.Outers() {
		sameFamily := func(o netip.AddrPort) bool { return o.Addr().BitLen() == at.Addr().BitLen() }
		if slices.ContainsFunc(own, sameFamily) {
			fit = append(fit, at)
		}
	}
	if len(fit) == 0 {
		return r.Outers()
	}
	return fit
}

// RouteRow is how packets for a session's leases leave an egress.
type RouteRow struct {
	Session  registry.SessionID `json:"session"`
	Leases   []netip.Addr       `json:"leases"`
	Mode     registry.Mode      `json:"mode"`
	SprayUDP bool               `json:"spray_udp,omitempty"`
	Slices   []RouteSlice       `json:"slices"`
	Flow
	// Upward is the granted SPIs of all slices that may bring packets up: those
	// that are not up yet, spares and older epochs too.
	Upward []uint32 `json:"upward,omitempty"`
}

// Equal compares two rows.
func (r RouteRow) Equal(o RouteRow) bool {
	return r.Session == o.Session && r.Mode == o.Mode && r.SprayUDP == o.SprayUDP && r.Flow == o.Flow &&
		slices.Equal(r.Leases, o.Leases) && slices.Equal(r.Slices, o.Slices) && slices.Equal(r.Upward, o.Upward)
}

// RuleRow is what a session's client may reach: its peer alone, if the session
// has one; else the client's own prefixes; else what policy pushes to all.
type RuleRow struct {
	Session  registry.SessionID `json:"session"`
	Client   string             `json:"client"`
	Prefixes []netip.Prefix     `json:"prefixes,omitempty"`
	Peer     identity.NodeID    `json:"peer,omitzero"`
}

// Equal compares two rows.
func (r RuleRow) Equal(o RuleRow) bool {
	return r.Session == o.Session && r.Client == o.Client && r.Peer == o.Peer && slices.Equal(r.Prefixes, o.Prefixes)
}

// RouteSlice is one slice that is up.
type RouteSlice struct {
	Number uint8          `json:"number"`
	Epoch  uint32         `json:"epoch"`
	Agent  identity.Index `json:"agent"`
	SPI    uint32         `json:"spi"`
	Weight uint32         `json:"weight"` // 0: spare, carries only while no other does
}

// Grant gives an agent a slice.
type Grant struct {
	Grant []byte `json:"grant"` // mka.SignedGrant
	Share []byte `json:"share"` // r_A
	// Rule is what its client may reach; nil for a grant of ModeLink.
	Rule *RuleRow `json:"rule,omitempty"`
}

// ModeLink is the mode of a grant that is for a node, not for a client: the slice is
// the SA pair under which the two hand on.
const ModeLink = "hand-on"

// Link asks for an SA pair with another node, in the client's place of MKA/1.
type Link struct {
	Peer  identity.NodeID `json:"peer"`
	Hello []byte          `json:"hello"` // mka.Hello
}

// LinkOffer is what the asking node needs for its Accept.
type LinkOffer struct {
	Peer   identity.NodeID `json:"peer"`
	Grant  []byte          `json:"grant"`  // mka.SignedGrant
	Prekey []byte          `json:"prekey"` // mka.SignedPrekey
	Share  []byte          `json:"share"`  // r_A
}

// Revoke takes a slice back: after Linger seconds of receive-only.
type Revoke struct {
	Slice  SliceRef `json:"slice"`
	Linger uint32   `json:"linger"`
}

// Standby asks a node to run Raft with an empty log; the leader then adds it.
// Voters are the keys its Raft port has to admit.
type Standby struct {
	Voters []identity.NodeID `json:"voters"`
}
