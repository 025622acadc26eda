package protocol

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Join is a message of a joining or renewing node (ALPN "mc-join/1",
// "mc-renew/1"); exactly one field is set.
type Join struct {
	Request *JoinRequest `json:"request,omitempty"` // N→L
	Renew   *Renew       `json:"renew,omitempty"`   // N→L
	Reply   *JoinReply   `json:"reply,omitempty"`   // L→N
	Refused *Refused     `json:"refused,omitempty"` // L→N
}

// JoinRequest proves the token's secret over the TLS exporter and the CSR.
type JoinRequest struct {
	Token    string         `json:"token"` // its id
	CSR      []byte         `json:"csr"`
	Proof    []byte         `json:"proof"`
	WrapKey  []byte         `json:"wrap_key"`
	Name     string         `json:"name"`
	Outer    netip.AddrPort `json:"outer"`
	Other    netip.AddrPort `json:"other,omitzero"` // of the other family
	Inside   netip.Addr     `json:"inside"`
	Capacity uint32         `json:"capacity"`
	Mbit     uint32         `json:"mbit"`
	Roles    []string       `json:"roles,omitempty"` // fewer than the token allows
	// Userspace is a node without a TUN; a mesh that routes has no use for it.
	Userspace bool `json:"userspace,omitempty"`
}

// Renew asks for a fresh certificate for the key of this connection.
type Renew struct {
	CSR []byte `json:"csr"`
}

// JoinReply is what a new or renewed member needs to take part.
type JoinReply struct {
	Certificate []byte              `json:"certificate"`
	CA          []byte              `json:"ca"`
	Cluster     identity.ClusterID  `json:"cluster"`
	Index       identity.Index      `json:"index"`
	GossipKey   []byte              `json:"gossip_key,omitempty"`
	Nodes       []NodeRow           `json:"nodes,omitempty"`
	Pool        []netip.Prefix      `json:"pool,omitempty"`
	Egress      registry.EgressKind `json:"egress,omitempty"`
}
