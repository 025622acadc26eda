package mirror

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/conntrack"
	"github.com/meshcrypt/meshcrypt/node/loop"
)

// Kernel is this host's table of flows, conntrack.Kernel but in tests.
type Kernel interface {
	Flows([]netip.Prefix) ([]conntrack.Flow, error)
	Put(conntrack.Flow) error
	Delete(conntrack.Key) error
	Close() error
}

// Part is a part of the pool and the moving address that hides it.
type Part struct {
	Prefix netip.Prefix
	Inside netip.Addr
}

// Config is what a Copier is made of.
type Config struct {
	// Dial connects to an egress.
	Dial func(context.Context, identity.NodeID) (net.Conn, error)
	// Open opens this host's table.
	Open func() (Kernel, error)
	Now  func() time.Time
	Log  *slog.Logger
}

// Copier is the second's side: it keeps a stream to every egress that this
// node stands behind.
type Copier struct {
	config Config
	wanted chan map[identity.NodeID][]Part
	flows  atomic.Int64 // copied and living
}

// NewCopier makes a copier that follows nobody yet.
func NewCopier(c Config) *Copier {
	return &Copier{config: c, wanted: make(chan map[identity.NodeID][]Part, 1)}
}

// Follow names the egresses to copy from, in place of those named before. It
// does not block; it is for one goroutine.
func (c *Copier) Follow(wanted map[identity.NodeID][]Part) {
	select {
	case <-c.wanted: // not looked at yet
	default:
	}
	c.wanted <- wanted
}

// Flows is how many flows of others this host's kernel has just now.
func (c *Copier) Flows() int { return int(c.flows.Load()) }

// Run follows until ctx ends.
func (c *Copier) Run(ctx context.Context) {
	following := make(map[identity.NodeID]*follower)
	for {
		select {
		case <-ctx.Done():
			for _, f := range following {
				f.stop()
			}
			return
		case wanted := <-c.wanted:
			for egress, f := range following {
				if !slices.Equal(f.parts, wanted[egress]) {
					f.stop()
					delete(following, egress)
				}
			}
			for egress, parts := range wanted {
				if following[egress] == nil {
					following[egress] = c.start(ctx, egress, parts)
				}
			}
		}
	}
}

// follower is the stream to one egress.
type follower struct {
	*Copier
	egress identity.NodeID
	parts  []Part
	cancel context.CancelFunc
	done   chan struct{}
}

func (c *Copier) start(ctx context.Context, egress identity.NodeID, parts []Part) *follower {
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{Copier: c, egress: egress, parts: parts, cancel: cancel, done: make(chan struct{})}
	go f.run(ctx)
	return f
}

func (f *follower) stop() {
	f.cancel()
	<-f.done
}

func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	for ctx.Err() == nil {
		if err := f.copy(ctx); err != nil && ctx.Err() == nil {
			f.config.Log.Debug("stream of flows ended", "egress", f.egress.Short(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(RedialAfter):
		}
	}
}

// copy follows one stream to its end.
func (f *follower) copy(ctx context.Context) error {
	conn, err := f.config.Dial(ctx, f.egress)
	if err != nil {
		return err
	}
	defer func() { conn.Close() }() // or what becomes of it
	raw := conn
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	kernel, err := f.config.Open()
	if err != nil {
		return err
	}
	defer kernel.Close()
	want := appendFrame(nil, kindWant, appendPrefixes(nil, prefixesOf(f.parts)))
	if _, err := (paced{conn, f.config.Now}).Write(want); err != nil {
		return err
	}
	r := &replica{kernel: kernel, parts: f.parts, known: make(map[conntrack.Key]netip.AddrPort), flows: &f.flows, log: f.config.Log}
	defer func() { f.flows.Add(-int64(len(r.known))) }()
	b := make([]byte, maxFrame)
	if err := conn.SetReadDeadline(f.config.Now().Add(SilentAfter)); err != nil {
		return err
	}
	k, body, err := readFrame(conn, b) // and not a byte more: what follows may be records
	if k == kindBeats {
		err = conn.SetWriteDeadline(time.Time{}) // that of what was wanted
		conn = loop.NewPipe(conn, loop.Nodes())
	}
	for in := bufio.NewReader(conn); err == nil; k, body, err = readFrame(in, b) {
		if err := r.take(k, body); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(f.config.Now().Add(SilentAfter)); err != nil {
			return err
		}
	}
	return err
}

func prefixesOf(parts []Part) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(parts))
	for i, p := range parts {
		prefixes[i] = p.Prefix
	}
	return prefixes
}

var errList = errors.New("mirror: an end without a begin")

// replica is what one stream has written into the kernel.
type replica struct {
	kernel Kernel
	parts  []Part
	known  map[conntrack.Key]netip.AddrPort // what it is translated to
	stale  map[conntrack.Key]netip.AddrPort // not in the present list, so far
	flows  *atomic.Int64
	log    *slog.Logger
}

// take obeys one frame.
func (r *replica) take(k kind, body []byte) error {
	switch k {
	case kindBegin:
		return r.begin()
	case kindEnd:
		return r.end()
	case kindFlow, kindGone:
		f, err := parseFlow(body)
		if err != nil {
			return err
		}
		switch {
		case !r.owns(f):
			r.log.Debug("flow not copied: it is not hidden behind its part's address", "flow", f)
		case k == kindGone:
			return r.forget(f.Key)
		default:
			return r.put(f)
		}
	case kindWant, kindAlive, kindBeats:
	}
	return nil
}

// owns reports whether a flow is from one of the parts and hidden behind its
// address: an egress gets nothing else into this kernel. It may have others,
// from before it knew the address.
func (r *replica) owns(f conntrack.Flow) bool {
	return slices.ContainsFunc(r.parts, func(p Part) bool {
		return p.Prefix.Contains(f.Source.Addr()) && p.Inside == f.NAT.Addr()
	})
}

// begin notes what the kernel has: from this stream, from one before, or from
// when this host was egress itself.
func (r *replica) begin() error {
	flows, err := r.kernel.Flows(prefixesOf(r.parts))
	if err != nil {
		return err
	}
	r.stale = make(map[conntrack.Key]netip.AddrPort, len(flows))
	for _, f := range flows {
		r.stale[f.Key] = f.NAT
	}
	r.flows.Add(int64(len(r.stale) - len(r.known)))
	r.known = maps.Clone(r.stale)
	return nil
}

func (r *replica) end() error {
	if r.stale == nil {
		return errList
	}
	var errs []error
	for key := range r.stale {
		errs = append(errs, r.forget(key))
	}
	r.stale = nil
	return errors.Join(errs...)
}

// put writes a flow down. Beyond the limit, and when the kernel's own table is
// full, new ones are passed over: they break when the egress fails, the others
// do not.
func (r *replica) put(f conntrack.Flow) error {
	delete(r.stale, f.Key)
	switch old, known := r.known[f.Key]; {
	case known && old != f.NAT:
		if err := r.forget(f.Key); err != nil {
			return err
		}
	case !known && len(r.known) >= MaxFlows:
		return nil
	}
	f.Timeout = max(f.Timeout, uint32(Keep.Seconds()))
	if err := r.kernel.Put(f); err != nil {
		r.log.Debug("flow not copied", "flow", f, "error", err)
		return nil
	}
	if _, known := r.known[f.Key]; !known {
		r.known[f.Key] = f.NAT
		r.flows.Add(1)
	}
	return nil
}

func (r *replica) forget(key conntrack.Key) error {
	if _, known := r.known[key]; known {
		delete(r.known, key)
		r.flows.Add(-1)
	}
	delete(r.stale, key)
	return r.kernel.Delete(key)
}
