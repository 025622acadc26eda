// Package conntrack is the kernel's table of masqueraded flows: it lists them,
// hears of their changes, and makes them in another host's kernel, so that a
// flow outlives the egress that masqueraded it. It owns the netlink messages
// and the encoding of one flow. It does not own what is masqueraded to where
// (node/host), nor who tells whom (node/mirror).
package conntrack
