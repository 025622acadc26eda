package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// aside is a node that stands aside, and how it ends.
func (w *world) aside(ctx context.Context, m *member) (*control.Client, <-chan error) {
	ended := make(chan error, 1)
	go func() { ended <- m.standAside(ctx) }()
	client := control.NewClient(func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", m.dir.Path(datadir.SocketName))
	})
	return client, ended
}

// TestStandsAside: a node whose key another host has lives on to say so, and leaves
// without a word to the mesh, in which the other goes on.
func TestStandsAside(t *testing.T) {
	w := newWorld(t, 2)
	m := w.members[1]
	ctx, cancel := context.WithCancel(t.Context())
	client, ended := w.aside(ctx, m)
	var s control.Status
	w.until("it says what is the matter", func() bool {
		return client.Call(t.Context(), control.OpStatus, control.Nothing{}, &s) == nil
	})
	if s.Health != "degraded" || len(s.Problems) != 1 || !strings.Contains(s.Problems[0], "another host runs with its key") ||
		s.Node != m.trust.Key.ID() {
		t.Errorf("%+v", s)
	}
	for _, operation := range []string{control.OpMembers, control.OpDrain} {
		var refused *control.Error
		if err := client.Call(t.Context(), operation, control.Nothing{}, nil); !errors.As(err, &refused) || refused.Code != control.CodeDegraded ||
			!strings.Contains(refused.Next, "meshcrypt status") {
			t.Errorf("%s: %v", operation, err)
		}
	}
	cancel()
	w.ok(<-ended)
	client, ended = w.aside(t.Context(), m)
	w.until("it leaves", func() bool {
		return client.Call(t.Context(), control.OpLeave, control.Nothing{}, nil) == nil
	})
	if err := <-ended; !errors.Is(err, ErrLeft) {
		t.Errorf("ended with %v", err)
	}
}

// TestFenceOutlivesARestart: a fence whose view never came counts after a restart, and a
// lower one does not take its place (I6).
func TestFenceOutlivesARestart(t *testing.T) {
	w := newWorld(t, 1)
	m := w.members[0]
	fence := protocol.Fence{Incarnation: 3, Term: 77}
	w.ok(errors.Join(m.saveFence(fence), m.saveFence(protocol.Fence{Incarnation: 2, Term: 99})))
	if kept, err := m.dir.Known(); err != nil || kept.Fence != fence {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

// TestStatusOfWhoEnds: while a daemon ends, its loop answers nothing, and status is told how
// long that may take.
func TestStatusOfWhoEnds(t *testing.T) {
	w := newWorld(t, 1)
	m := w.members[0]
	m.stop()
	var refused *control.Error
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := m.Node.status(httptest.NewRequestWithContext(ctx, http.MethodPost, "/", nil), control.Nothing{})
	if !errors.As(err, &refused) || refused.Code != control.CodeDegraded || !strings.Contains(refused.Next, EndWithin.String()) {
		t.Errorf("%v", err)
	}
}
