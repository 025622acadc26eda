package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// recorder is a user side that only notes how it was closed.
type recorder struct {
	*tuntest.Device
	isUp bool
	left string
}

func (r *recorder) Up([]netip.Addr, protocol.Update) error { return nil }
func (r *recorder) SetMTU(int) error                       { return nil }
func (r *recorder) device() tun.Device                     { return r.Device }
func (r *recorder) uso() bool                              { return false }
func (r *recorder) mark() int                              { return 0 }
func (r *recorder) faults() []string                       { return nil }
func (r *recorder) putBack() map[string]uint64             { return nil }
func (r *recorder) up() bool                               { return r.isUp }
func (r *recorder) local() []control.ClientLocal           { return nil }
func (r *recorder) roamed()                                {}

func (r *recorder) close(leave bool) error {
	r.left = map[bool]string{true: "closed", false: "open"}[leave]
	return nil
}

// Every end is closed but the user's own, whatever else goes wrong beside it, and
// one before the tunnel was up has nothing to say of it.
func TestEndsAreClosedButTheUsersOwn(t *testing.T) {
	refusal := &client.Refusal{Refused: protocol.Refused{Code: protocol.RefusedAuth, Reason: "no"}}
	for name, c := range map[string]struct {
		why                          error
		signalled, disconnected, new bool
		want                         string
	}{
		"kicked, revoked, hours over":       {why: fmt.Errorf("%w: kicked", client.ErrEnded), want: "closed"},
		"headless time over":                {why: client.ErrHeadless, want: "closed"},
		"refused at a resumption":           {why: refusal, want: "closed"},
		"a fatal error of this host":        {why: host.ErrNoDevice, want: "closed"},
		"a panic":                           {why: errAbrupt, want: "closed"},
		"no reason at all":                  {want: "closed"},
		"a refused first login":             {why: refusal, new: true, want: "closed"},
		"a signal":                          {signalled: true, want: "open"},
		"disconnect":                        {disconnected: true, want: "open"},
		"a signal while it is kicked":       {why: client.ErrEnded, signalled: true, want: "open"},
		"disconnect while the host fails":   {why: host.ErrNoDevice, disconnected: true, want: "open"},
		"a signal before the tunnel was up": {signalled: true, new: true, want: "open"},
	} {
		user := &recorder{Device: tuntest.New(1), isUp: !c.new}
		engine, err := dataplane.New(dataplane.Config{Device: user.Device, Clock: func() int64 { return 0 },
			Marked: func(link.Socket, link.Path, dataplane.Marker, []byte) {}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, signal := context.WithCancel(t.Context())
		if c.signalled {
			signal()
		}
		one := &connection{config: ConnectConfig{RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, user: user, engine: engine, signalled: ctx.Err}
		one.disconnected.Store(c.disconnected)
		err = one.close(c.why)
		signal()
		var shut *Shut
		if user.left != c.want || errors.As(err, &shut) != (c.want == "closed" && !c.new) || c.why != nil && !errors.Is(err, c.why) {
			t.Errorf("%s: the host is left %s, %v", name, user.left, err)
		}
	}
}

// A warning of a network is said once, however often it is settled, and no more
// than MaxToldNetworks are (I10).
func TestHiddenNetworksAreToldOnce(t *testing.T) {
	said := &journal{said: make(map[string]int)}
	a := around{config: ConnectConfig{Log: newLogger(said), TUN: "none"}}
	for i := range MaxToldNetworks + 5 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		for range 2 {
			a.warn(p, "hidden")
		}
	}
	if n := said.count("hidden"); n != MaxToldNetworks {
		t.Errorf("%d warnings", n)
	}
}
