package port

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

// ErrRelayFrame says that a relay stream did not start with a valid frame.
var ErrRelayFrame = errors.New("port: malformed relay frame")

// A relay stream is a connection between nodes (ALPN mc-relay/1) that carries
// one client connection: first a frame that names the client, because limits
// and audit at the arbiter need to know who it is, then its bytes, both ways.
//
//	version 1 | length 1 | address length 1 (4 or 16) | address | port 2 | protocol
//
// length counts what follows it; the protocol is the rest. Numbers are big
// endian. Under version 2 what follows the frame are records with beats between
// (loop.Pipe), for those who are known to read them.
const (
	relayVersion = 1
	relayBeats   = 2
)

// RelayHeader is that frame: whose connection follows, and the protocol its
// hello asks for.
type RelayHeader struct {
	Client netip.AddrPort
	ALPN   string
	// Known says that we know the client. It is not in the frame: the arbiter
	// has to hear it before it does our handshake, so the hello tells, by its
	// server name. An arbiter that does not know the word ignores it. In a trunk
	// it stands before the frame.
	Known bool
	// Beats says that the client's bytes travel in a loop.Pipe.
	Beats bool
}

// relayKnown is the server name that says so.
const relayKnown = "known"

// Marshal returns the frame. It fails on what ParseRelayHeader would refuse.
func (h RelayHeader) Marshal() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	address := h.Client.Addr().AsSlice()
	version := byte(relayVersion)
	if h.Beats {
		version = relayBeats
	}
	frame := []byte{version, byte(1 + len(address) + 2 + len(h.ALPN)), byte(len(address))}
	frame = append(frame, address...)
	frame = append(frame, byte(h.Client.Port()>>8), byte(h.Client.Port()))
	return append(frame, h.ALPN...), nil
}

func (h RelayHeader) check() error {
	a := h.Client.Addr()
	switch {
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("%w: client address %q", ErrRelayFrame, a)
	case !Relayed(h.ALPN):
		return fmt.Errorf("%w: protocol %q is not relayed", ErrRelayFrame, h.ALPN)
	}
	return nil
}

// ParseRelayHeader reads one whole frame.
func ParseRelayHeader(frame []byte) (RelayHeader, error) {
	if len(frame) < 3 || len(frame) > MaxRelayFrame || frame[0] < relayVersion || frame[0] > relayBeats || int(frame[1]) != len(frame)-2 {
		return RelayHeader{}, fmt.Errorf("%w: %d bytes", ErrRelayFrame, len(frame))
	}
	size, rest := int(frame[2]), frame[3:]
	if len(rest) < size+2 {
		return RelayHeader{}, fmt.Errorf("%w: cut short", ErrRelayFrame)
	}
	address, ok := netip.AddrFromSlice(rest[:size])
	if !ok {
		return RelayHeader{}, fmt.Errorf("%w: address of %d bytes", ErrRelayFrame, size)
	}
	number := uint16(rest[size])<<8 | uint16(rest[size+1])
	h := RelayHeader{Client: netip.AddrPortFrom(address, number), ALPN: string(rest[size+2:]), Beats: frame[0] == relayBeats}
	return h, h.check()
}

// DialRelay opens a relay stream to the arbiter and names the client whose
// connection it is to carry. ctx bounds the opening only. A node that is not
// the arbiter has no route for mc-relay/1, so reaching it fails here, before
// any byte of the client is spent.
func DialRelay(ctx context.Context, arbiter netip.AddrPort, config *tls.Config, h RelayHeader) (net.Conn, error) {
	frame, err := h.Marshal()
	if err != nil {
		return nil, err
	}
	if h.Known {
		config = config.Clone()
		config.ServerName = relayKnown
	}
	conn, err := dialOnward(ctx, arbiter, config, ALPNRelay, frame)
	if err != nil {
		return nil, err
	}
	return h.carrier(conn), nil
}

// dialOnward opens a connection to the arbiter and says a first word, if there is one.
func dialOnward(ctx context.Context, arbiter netip.AddrPort, config *tls.Config, alpn string, word []byte) (*tls.Conn, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", arbiter.String())
	if err != nil {
		return nil, fmt.Errorf("port: relay: %w", err)
	}
	conn := tls.Client(raw, config)
	loop.Apart(func() { err = openOnward(ctx, conn, alpn, word) })
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("port: relay to %s: %w", arbiter, err)
	}
	return conn, nil
}

// carrier is the connection for the client's bytes. Both ends count as dead after the
// silence that a client and its arbiter are allowed, for that is whose silence it is.
func (h RelayHeader) carrier(conn net.Conn) net.Conn {
	if h.Beats {
		return loop.NewPipe(conn, loop.Relays())
	}
	return conn
}

func openOnward(ctx context.Context, conn *tls.Conn, alpn string, word []byte) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != alpn {
		return fmt.Errorf("%w: peer speaks %q", ErrRelayFrame, got)
	}
	if len(word) == 0 {
		return nil
	}
	_, err := conn.Write(word)
	return err
}

// AcceptRelay reads the frame at the start of a relay stream. What it returns beside is
// the client's connection, ready for Port.Serve.
func AcceptRelay(conn net.Conn) (RelayHeader, net.Conn, error) {
	h, err := readRelay(conn)
	if err != nil {
		return h, nil, err
	}
	return h, h.carrier(conn), nil
}

func readRelay(conn net.Conn) (RelayHeader, error) {
	conn.SetReadDeadline(time.Now().Add(RelayFrameTimeout))
	var buf [MaxRelayFrame]byte
	if _, err := io.ReadFull(conn, buf[:2]); err != nil {
		return RelayHeader{}, fmt.Errorf("%w: %w", ErrRelayFrame, err)
	}
	size := 2 + int(buf[1])
	if size > MaxRelayFrame {
		return RelayHeader{}, fmt.Errorf("%w: %d bytes, limit %d", ErrRelayFrame, size, MaxRelayFrame)
	}
	if _, err := io.ReadFull(conn, buf[2:size]); err != nil {
		return RelayHeader{}, fmt.Errorf("%w: %w", ErrRelayFrame, err)
	}
	h, err := ParseRelayHeader(buf[:size])
	if err != nil {
		return RelayHeader{}, err
	}
	return h, conn.SetReadDeadline(time.Time{})
}
