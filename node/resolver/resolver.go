// Package resolver asks DNS servers for the addresses of a name: a stub
// resolver whose packets go where its dialer sends them, through the tunnel and
// nowhere else. It reads no file of the host and keeps no cache; it does not
// know what a name is for.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Errors of Lookup.
var (
	ErrNoServers = errors.New("resolver: no server is known")
	ErrNotFound  = errors.New("resolver: no such name")
	ErrName      = errors.New("resolver: not a name")
	errAnswer    = errors.New("resolver: not an answer to the question")
)

// port is where DNS servers listen.
const port = 53

// Resolver asks the servers in their order. It does not change once it is used.
type Resolver struct {
	Servers []netip.Addr
	// Search are the domains below which a name without a dot is looked for.
	Search []string
	// Dial connects by "udp" or "tcp".
	Dial func(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error)
}

// Lookup gives a name's addresses, IPv6 first where there are both.
func (r Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if len(r.Servers) == 0 {
		return nil, ErrNoServers
	}
	var err error
	for _, candidate := range r.candidates(name) {
		var all []netip.Addr
		if all, err = r.both(ctx, candidate); err == nil || !errors.Is(err, ErrNotFound) {
			return all, err
		}
	}
	return nil, err
}

// candidates are the names to try, in order: one with a dot as it is first.
func (r Resolver) candidates(name string) (all []string) {
	bare := strings.TrimSuffix(name, ".")
	if bare != name {
		return []string{bare}
	}
	if strings.Contains(bare, ".") {
		all = append(all, bare)
	}
	for _, domain := range r.Search[:min(len(r.Search), MaxSearch)] {
		all = append(all, bare+"."+strings.Trim(domain, "."))
	}
	if !strings.Contains(bare, ".") {
		all = append(all, bare)
	}
	return all
}

// both asks for both families at once. One family's failure is not the
// other's, but a name that has neither does not exist.
func (r Resolver) both(ctx context.Context, name string) ([]netip.Addr, error) {
	type found struct {
		all []netip.Addr
		err error
	}
	v4 := make(chan found, 1)
	go func() {
		all, err := r.ask(ctx, name, dnsmessage.TypeA)
		v4 <- found{all, err}
	}()
	all, err := r.ask(ctx, name, dnsmessage.TypeAAAA)
	other := <-v4
	if all = append(all, other.all...); len(all) > 0 {
		return all, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if other.err != nil && !errors.Is(other.err, ErrNotFound) {
		return nil, other.err
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
}

// ask asks one server after the other until one answers.
func (r Resolver) ask(ctx context.Context, name string, kind dnsmessage.Type) ([]netip.Addr, error) {
	query, err := newQuery(name, kind)
	if err != nil {
		return nil, err
	}
	var failed error
	for range Attempts {
		for _, server := range r.Servers[:min(len(r.Servers), MaxServers)] {
			all, err := r.exchange(ctx, netip.AddrPortFrom(server, port), query)
			if err == nil || errors.Is(err, ErrNotFound) {
				return all, err
			}
			failed = fmt.Errorf("resolver: %s of %v: %w", name, server, err)
			if ctx.Err() != nil {
				return nil, failed
			}
		}
	}
	return nil, failed
}

// exchange asks by UDP, and by TCP what UDP cannot carry.
func (r Resolver) exchange(ctx context.Context, server netip.AddrPort, q query) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, AskTimeout)
	defer cancel()
	for _, way := range []struct {
		network string
		ask     func(net.Conn, query) (answer, error)
	}{{"udp", askDatagram}, {"tcp", askStream}} {
		a, err := r.over(ctx, way.network, server, q, way.ask)
		if err != nil || !a.truncated {
			return slices.Clip(a.addresses), errors.Join(err, a.err)
		}
	}
	return nil, fmt.Errorf("%w: truncated", errAnswer)
}

func (r Resolver) over(ctx context.Context, network string, server netip.AddrPort, q query, ask func(net.Conn, query) (answer, error)) (answer, error) {
	c, err := r.Dial(ctx, network, server)
	if err != nil {
		return answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	defer c.Close()
	a, err := ask(c, q)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return a, err
}
