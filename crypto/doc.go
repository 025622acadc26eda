// Package crypto holds no code: it says against whom the packages below it
// stand, and which key comes from which.
//
// # Threat model
//
// The attacker owns every outer network: reads, drops, delays, reorders,
// changes, repeats and invents packets, and keeps all of them for the day of a
// quantum computer. He may own a gateway, which has no keys. He may own one
// agent: he then reads and forges that agent's slices, from the moment he owns
// it until its next agreement elsewhere, and no other's. He may restore an old
// snapshot of any machine's disk: no key is there.
//
// Trusted are the client's host for its own traffic, an agent for its slices,
// and a voter for admission: voters hold the sealed CA key, so whoever owns
// one can make nodes and, once elected, grant slices to itself. The inside
// network carries the same plaintext that the company's hosts send anyway.
// Not defended: traffic analysis, and a host that is owned while its keys live.
//
// A machine that is cloned or restored with its memory has a copy of every key and
// counter in it. Where the kernel tells (Linux 6.10, a hypervisor with a generation
// id), node and client drop them all at once; what the two copies sealed before they
// heard of it, milliseconds, may have used a key and counter twice. Where nothing
// tells, they go on until their keys end, 15 minutes at most, and a packet may give
// away another and the means to forge under that key. A copy that makes itself known
// to the arbiter is told apart, and one of the two is fenced. So: no snapshot with
// memory of a running node or client, unless its machine has a generation id.
//
// # Key hierarchy
//
//	recovery key (offline)   data key ── wrapped to each voter's wrap key (vault)
//	        └───────────────▶   └─ seals ▶ CA issuing key, gossip key, back-end secrets
//	CA key (pki) ─ signs ▶ node certificates 24 h, arbiter certificate 1 h
//	node key (identity) ─ is ▶ NodeID ─ signs ▶ prekeys of one boot (mka)
//	arbiter's key ─ signs ▶ slice grants (mka)
//	client credential ─ admits ▶ session key pk_S, fresh for each session ─ signs ▶ accepts (mka)
//	share r_A (arbiter) + KEM secret (client, agent) + transcript ▶ traffic keys of an SA pair (esp)
//	                                                             └▶ rekey secret ▶ next SA pair
//
// A key signs or seals for one purpose, under a label of its own. Traffic keys
// and what they come from are born in one process's memory and die with it
// (I1); no change of owner, restart or restore uses one again (I2).
package crypto
