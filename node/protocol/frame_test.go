package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// frame is a length and a body, whether they agree or not.
func frame(n uint32, body string) *bytes.Buffer {
	return bytes.NewBuffer(append(binary.BigEndian.AppendUint32(nil, n), body...))
}

func TestMessagesRoundTrip(t *testing.T) {
	var wire bytes.Buffer
	nodes, clients, joins := NewStream(&wire), NewConn[Client](&wire), NewConn[Join](&wire)
	n := &Node{View: &View{Full: true, Slices: []SliceRef{{Session: registry.SessionID{1}, Number: 2, Epoch: 3}},
		Nodes: []NodeRow{{ID: identity.NodeID{4}, Index: 5, Voter: true}}}}
	c := &Client{Auth: &Auth{Method: MethodResume, Session: registry.SessionID{9}, Proof: []byte{1}}}
	j := &Join{Renew: &Renew{CSR: []byte{7}}}
	for _, err := range []error{nodes.Write(n), clients.Write(c), joins.Write(j)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	gotN, errN := nodes.Read()
	gotC, errC := clients.Read()
	gotJ, errJ := joins.Read()
	if err := errors.Join(errN, errC, errJ); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(gotN, n) || !reflect.DeepEqual(gotC, c) || !reflect.DeepEqual(gotJ, j) {
		t.Errorf("%+v %+v %+v", gotN, gotC, gotJ)
	}
}

// writes is a stream that notes what was written.
type writes struct {
	bytes.Buffer
	sizes []int
}

func (w *writes) Write(b []byte) (int, error) {
	w.sizes = append(w.sizes, len(b))
	return w.Buffer.Write(b)
}

// TestTogether: short messages go in one write, each in its frame; a long one goes alone.
func TestTogether(t *testing.T) {
	var wire writes
	conn := NewConn[Client](&wire)
	short := &Client{Up: &SliceRef{Number: 1, Epoch: 2}}
	long := &Client{Bye: &Bye{Reason: strings.Repeat("x", MaxTogether)}}
	all := []*Client{short, short, long, short}
	if err := conn.Write(all...); err != nil {
		t.Fatal(err)
	}
	if n := len(wire.sizes); n != 3 || wire.sizes[0] > MaxTogether || wire.sizes[2]*2 != wire.sizes[0] {
		t.Errorf("writes of %v bytes", wire.sizes)
	}
	for _, m := range all {
		if got, err := conn.Read(); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("read %+v, %v", got, err)
		}
	}
}

// TestMessageToMany is encoded once: everybody is written the same, whatever became of it.
func TestMessageToMany(t *testing.T) {
	n := (&Node{Load: &Load{Used: 0.5}}).ToMany()
	for range 3 {
		var wire bytes.Buffer
		conn := NewStream(&wire)
		if err := conn.Write(n); err != nil {
			t.Fatal(err)
		}
		if got, err := conn.Read(); err != nil || got.Load == nil || got.Load.Used != 0.5 {
			t.Errorf("read %+v, %v", got, err)
		}
		n.Load.Used = 1
	}
	c := (&Client{Bye: &Bye{Reason: "first"}}).ToMany()
	for range 2 {
		var wire bytes.Buffer
		conn := NewConn[Client](&wire)
		if err := conn.Write(c); err != nil {
			t.Fatal(err)
		}
		if got, err := conn.Read(); err != nil || got.Bye == nil || got.Bye.Reason != "first" {
			t.Errorf("read %+v, %v", got, err)
		}
		c.Bye.Reason = "second"
	}
}

// TestRouteRowsCompare by all that they say.
func TestRouteRowsCompare(t *testing.T) {
	row := func() RouteRow {
		return RouteRow{Session: registry.SessionID{1}, Mode: registry.ModeAuto, Leases: []netip.Addr{{}}, Upward: []uint32{1}, Slices: []RouteSlice{{Number: 1}}}
	}
	for i, change := range []func(*RouteRow){
		func(r *RouteRow) { r.Session[0]++ }, func(r *RouteRow) { r.Mode = registry.ModePin }, func(r *RouteRow) { r.Leases = nil },
		func(r *RouteRow) { r.Upward[0]++ }, func(r *RouteRow) { r.Slices[0].Weight++ }, func(r *RouteRow) { r.SprayUDP = true },
		func(r *RouteRow) { r.Flow.Skew++ },
	} {
		if other := row(); !other.Equal(row()) {
			t.Fatal("a row is not equal to itself")
		} else if change(&other); other.Equal(row()) {
			t.Errorf("change %d is not seen", i)
		}
	}
}

// TestFrameLimit: an arbiter reads MaxAskFrame of strangers and MaxMemberFrame of members,
// and writes MaxFrame (I10).
func TestFrameLimit(t *testing.T) {
	text := func(size int) *Client { return &Client{Bye: &Bye{Reason: strings.Repeat("x", size)}} }
	overhead := len(`{"bye":{"reason":""}}`)
	var wire bytes.Buffer
	c := NewConn[Client](&wire)
	if err := c.Write(text(MaxFrame - overhead)); err != nil {
		t.Fatalf("at the limit: %v", err)
	}
	if m, err := c.Read(); err != nil || len(m.Bye.Reason) != MaxFrame-overhead {
		t.Fatalf("read at the limit: %v", err)
	}
	if err := c.Write(text(MaxFrame - overhead + 1)); !errors.Is(err, ErrTooLong) || wire.Len() != 0 {
		t.Errorf("one byte beyond: %v, %d bytes sent", err, wire.Len())
	}
	if _, err := NewConn[Client](frame(MaxFrame+1, "")).Read(); !errors.Is(err, ErrTooLong) {
		t.Errorf("announced one byte beyond: %v", err)
	}
	if err := NewAsked[Client](&wire).Write(text(MaxFrame - overhead)); err != nil {
		t.Errorf("an arbiter's answer at the limit: %v", err)
	}
	if _, err := NewAsked[Client](frame(MaxAskFrame, "")).Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("asked at the limit: %v", err)
	}
	if _, err := NewAsked[Client](frame(MaxAskFrame+1, "")).Read(); !errors.Is(err, ErrTooLong) {
		t.Errorf("asked one byte beyond: %v", err)
	}
	if _, err := NewStream(frame(MaxFrame+1, "")).Read(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a member's larger frame: %v", err)
	}
	if _, err := NewStream(frame(MaxMemberFrame+1, "")).Read(); !errors.Is(err, ErrTooLong) {
		t.Errorf("a member's frame beyond its limit: %v", err)
	}
}

func TestBadFrames(t *testing.T) {
	for name, c := range map[string]struct {
		wire *bytes.Buffer
		want error
	}{
		"nothing":       {bytes.NewBuffer(nil), io.EOF},
		"half a length": {bytes.NewBuffer([]byte{0, 0}), io.ErrUnexpectedEOF},
		"no body":       {frame(5, ""), io.ErrUnexpectedEOF},
		"half a body":   {frame(5, `{"a`), io.ErrUnexpectedEOF},
		"an empty body": {frame(0, ""), ErrFrame},
		"no JSON":       {frame(3, "abc"), ErrFrame},
		"a wrong type":  {frame(11, `{"alive":1}`), ErrFrame},
	} {
		if _, err := NewConn[Node](c.wire).Read(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestUnknownFieldsAreIgnored: versions N and N-1 can talk.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	const text = `{"alive":{"bytes":3,"mood":"good"},"telepathy":{}}`
	m, err := NewConn[Client](frame(uint32(len(text)), text)).Read()
	if err != nil || m.Alive == nil || m.Alive.Bytes != 3 {
		t.Errorf("%+v, %v", m, err)
	}
}

// FuzzRead: no bytes panic, and what was understood is said again the same.
func FuzzRead(f *testing.F) {
	for _, body := range []string{`{}`, `{"hello":{"boot":"00"}}`, `{"view":{"full":true,"pool":["10.0.0.0/8"]}}`,
		`{"grant":{"grant":"AA==","share":""}}`, `{"bye":{"reason":"\u0000"}}`, `[]`} {
		f.Add(frame(uint32(len(body)), body).Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, wire []byte) {
		again(t, wire, NewStream)
		again(t, wire, NewConn[Client])
		again(t, wire, NewConn[Join])
	})
}

func again[M any](t *testing.T, wire []byte, open func(io.ReadWriter) *Conn[M]) {
	m, err := open(bytes.NewBuffer(wire)).Read()
	if err != nil {
		return
	}
	first, err := json.Marshal(m)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	var buffer bytes.Buffer
	c := open(&buffer)
	if err := c.Write(m); err != nil {
		return // its text grew beyond the limit by escapes
	}
	back, err := c.Read()
	if err != nil {
		t.Fatalf("%s is not read again: %v", first, err)
	}
	if second, _ := json.Marshal(back); !bytes.Equal(first, second) {
		t.Fatalf("%s came back as %s", first, second)
	}
}

// TestBeatMakesNothing at either end: an arbiter says and hears thousands in a second.
func TestBeatMakesNothing(t *testing.T) {
	var wire bytes.Buffer
	wire.Grow(64)
	c := NewConn[Client](&wire)
	if made := testing.AllocsPerRun(100, func() {
		if err := c.Beat(); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Next(); m != nil || err != nil {
			t.Fatalf("a beat came as %v, %v", m, err)
		}
	}); made != 0 {
		t.Errorf("%v pieces of memory are made for a beat", made)
	}
}
