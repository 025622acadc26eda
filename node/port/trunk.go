package port

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// DialTrunk opens a trunk to the arbiter (ALPN mc-relay/2), for all connections that this
// node relays to it. ctx bounds the opening only. A node that is not the arbiter has no
// route for it, so reaching it fails here.
func DialTrunk(ctx context.Context, arbiter netip.AddrPort, config *tls.Config) (*trunk.Trunk, error) {
	conn, err := dialOnward(ctx, arbiter, config, ALPNTrunk, nil)
	if err != nil {
		return nil, err
	}
	return trunk.New(conn), nil
}

// OpenRelay begins a stream for one client in a trunk. Its first word is whether we know
// the client, 1 or 0, and then the frame of mc-relay/1.
func OpenRelay(t *trunk.Trunk, h RelayHeader) (net.Conn, error) {
	h.Beats = false // the trunk's are enough
	frame, err := h.Marshal()
	if err != nil {
		return nil, err
	}
	s, err := t.Open(append([]byte{known(h.Known)}, frame...))
	if err != nil {
		return nil, fmt.Errorf("port: relay: %w", err)
	}
	return s, nil
}

func known(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// ParseRelayWord reads the first word of a stream.
func ParseRelayWord(word []byte) (RelayHeader, error) {
	if len(word) == 0 || word[0] > known(true) {
		return RelayHeader{}, fmt.Errorf("%w: a word of %d bytes", ErrRelayFrame, len(word))
	}
	h, err := ParseRelayHeader(word[1:])
	if err == nil && h.Beats {
		err = fmt.Errorf("%w: beats within a trunk", ErrRelayFrame)
	}
	h.Known = word[0] == known(true)
	return h, err
}
