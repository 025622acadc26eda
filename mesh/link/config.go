package link

import (
	"errors"
	"fmt"
	"net/netip"
)

var (
	// ErrTooBig is returned by Send for a datagram larger than the path's
	// known MTU. The outer packet is never fragmented.
	ErrTooBig = errors.New("link: datagram exceeds the MTU of the path")
	// ErrConfig is returned by Listen for a Config that cannot be served.
	ErrConfig = errors.New("link: invalid configuration")
)

// Config says what Listen opens.
type Config struct {
	// Addr is the address and port; [::] also receives IPv4, port 0 lets the
	// kernel choose one port for all sockets.
	Addr netip.AddrPort
	// Count is how many sockets share the port (SO_REUSEPORT); 0 means 1.
	Count int
	// Device binds to one network device (SO_BINDTODEVICE); empty for any.
	Device string
	// Mark is put on every packet sent (SO_MARK), so that a client's own
	// outer packets do not follow the routes into its tunnel; 0 for none.
	Mark int
	// Ahead lets one system call take what waits, up to MaxAhead messages more,
	// which makes floods of single datagrams cheaper. It takes half a megabyte.
	Ahead bool
	// Answers lets only hosts in that were sent to.
	Answers bool
	// Fragment lets the kernel fragment a datagram that the next link does not
	// take. Otherwise none ever is, and Send says ErrTooBig.
	Fragment bool
}

func (c Config) check() (Config, error) {
	if !c.Addr.IsValid() {
		return c, fmt.Errorf("%w: no address to listen on", ErrConfig)
	}
	if c.Count < 0 || c.Count > MaxSockets {
		return c, fmt.Errorf("%w: %d sockets, the limit is %d", ErrConfig, c.Count, MaxSockets)
	}
	c.Count = max(c.Count, 1)
	c.Addr = netip.AddrPortFrom(c.Addr.Addr().Unmap(), c.Addr.Port())
	return c, nil
}
