package registry

import "github.com/meshcrypt/meshcrypt/crypto/identity"

// Limits of the registry (I10). Each has a test at the limit.
const (
	MaxSlices       = 16                     // of one session
	MaxRetiring     = 2 * MaxSlices          // older slice epochs of one session that still receive
	MaxHolders      = 64                     // processes of agents recorded per session or lease; a login that needs more is refused
	MaxAcknowledged = 4_096                  // sessions that one Acknowledge is about
	MaxMarks        = 1_024                  // slices that one MarkSlices is about
	MaxSessions     = 1 << 20                // active and ended, once enlarged; the oldest ended one makes room
	MaxLeases       = 4 * MaxSessions        // remembered leases, once enlarged; beyond it only expired ones are given
	MaxClients      = 1 << 20                // accounts, once enlarged, revoked ones included
	MaxAuthorities  = 32                     // imported CAs, revoked ones included
	MaxRoots        = 8                      // trust anchors of one imported CA
	MaxCertificates = 1 << 20                // client certificates issued or revoked, once enlarged, until their dates are over
	MaxRemoved      = 4_096                  // removed nodes remembered by key; the oldest is forgotten
	MaxTokens       = 1_024                  // join tokens, used up ones included until they age out
	MaxUses         = int(identity.MaxIndex) // of one token
	MaxPools        = 4                      // prefixes of the pool
	MaxParts        = 64                     // parts of the pool
	MaxPrefixes     = 64                     // pushed routes of a client or of the policy
	MaxModes        = 8                      // slicing modes that a policy names
	MaxSuites       = 8                      // ciphers that the policy names
	MaxDNS          = 3                      // DNS servers pushed to clients
	MaxSearch       = 6                      // search domains pushed to clients
	MaxSecrets      = 64                     // sealed secrets
	MaxWraps        = 64                     // wraps of the data key: voters and recovery
	MaxVoters       = 9                      // five by the operator's choice, and those that replace some
	MaxNetworks     = 16                     // inside networks of one node
	MaxPastBoots    = 8                      // superseded boots remembered per node
	MaxSpent        = 4_096                  // granted SPIs remembered per boot beyond the living ones
	MaxApplied      = 4_096                  // commands remembered for deduplication
	MaxTouched      = 16_384                 // sessions, and nodes, that the feed reaches back
	MaxName         = 64                     // bytes of a name
	MaxBlob         = 64 << 10               // bytes of a certificate, box or wrap
	MaxReason       = 160                    // bytes of a reason or detail
	MaxElapsed      = 24 * 60 * 60           // seconds one AdvanceTick may add
	MaxTokenLife    = 30 * 24 * 60 * 60      // seconds
	MaxHeadless     = 7 * 24 * 60 * 60       // seconds
	MaxCommand      = 1 << 20                // bytes of an encoded command
	MaxSnapshot     = 256 << 20              // bytes of a snapshot up to version 4; later ones are streams without a limit
	MaxPiece        = 64                     // objects in one piece of a snapshot
	MaxPieceBytes   = 16 << 20               // bytes of one piece
)

// Times of the registry, in ticks.
const (
	DefaultHeadless = 15 * 60      // seconds data runs without word from an arbiter, unless policy says
	HeadlessAlone   = 24 * 60 * 60 // the same while one node votes: nobody can take over
	MaxParkedWord   = 5 * 60       // seconds that agents say nothing of a parked client they hear
	EndedKept       = 24 * 60 * 60 // how long an ended session or a spent token stays listed
	HoldMargin      = 60           // added to headless before a lease or index is free again (I13)
	ReservedLeases  = 16           // addresses at the start of a pool that no client gets
)
