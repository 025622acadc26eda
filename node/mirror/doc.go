// Package mirror keeps the masqueraded flows of an egress in the kernel of its
// second too, so that they go on under their addresses and ports when the
// second takes over: an egress streams its flows (source.go), a second writes
// them down (copy.go).
//
// It owns the frames between the two and what happens after losses. It does
// not own the kernel's table (node/conntrack), nor who is egress and second of
// which part (node/agent), nor the connection (node).
//
// A stream begins with what the second wants, one list of prefixes. The egress
// answers with all flows between a begin and an end, then every change; after
// a loss, and every ResyncEvery, all flows again. What the second has and a
// whole list lacks is deleted, so that an error lives until the next list.
package mirror
