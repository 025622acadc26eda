package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/meshcrypt/meshcrypt/node/slots"
)

// A client whose turn would not come soon is told when to come again, before anything is
// spent on its handshake: in place of TLS's first record there is one of a type that TLS
// does not have, framed as TLS's are.
//
//	type 0xF7 | version 3, 3 | length 2 | hundredths of a second 2
//
// Only who says in its hello, by its server name, that it reads that is told; all others see
// an end. Nobody has proved anything then, so whoever is on the way can say it as he can cut
// the connection: MaxWait is all that it is good for.
const (
	waitType = 0xF7
	waitSize = 7
	waitUnit = 10 * time.Millisecond
	// WaitName is that server name.
	WaitName = "waits"
	// MaxWait is the longest that a client waits because it was told.
	MaxWait = slots.MaxWait
)

// Wait says that a client is to come again.
type Wait struct{ In time.Duration }

// Error says what is the matter.
func (w *Wait) Error() string {
	return fmt.Sprintf("more clients come than are let in at once; this one's turn is in %v", w.In.Round(time.Second))
}

// marshal is the record; a wait that it cannot say is MaxWait.
func (w *Wait) marshal() []byte {
	b := []byte{waitType, 3, 3, 0, 2}
	return binary.BigEndian.AppendUint16(b, uint16(min(max(w.In, 0), MaxWait)/waitUnit))
}

// parseWait reads the record.
func parseWait(b []byte) (*Wait, error) {
	if len(b) != waitSize || b[0] != waitType || b[1] != 3 || b[2] != 3 || b[3] != 0 || b[4] != 2 {
		return nil, errWait
	}
	return &Wait{min(time.Duration(binary.BigEndian.Uint16(b[5:]))*waitUnit, MaxWait)}, nil
}

var errWait = errors.New("port: malformed word to wait")

// Waiter is a connection over which a client is about to shake hands. If it is told to come
// again Told says so. Read belongs to one goroutine.
type Waiter struct {
	net.Conn
	read bool // something was
	told error
}

// Read is the connection's; a word to wait ends it.
func (w *Waiter) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if w.read || n == 0 {
		return n, err
	}
	w.read = true
	if b[0] != waitType {
		return n, err
	}
	var word [waitSize]byte
	if got := copy(word[:], b[:n]); got < waitSize {
		_, err = io.ReadFull(w.Conn, word[got:])
	}
	if wait, parseErr := parseWait(word[:]); parseErr == nil {
		w.told = wait
		return 0, wait
	}
	return 0, errors.Join(errWait, err)
}

// Told is the word to wait; nil if there was none. It is asked when the handshake has failed.
func (w *Waiter) Told() error { return w.told }

// NetConn is the connection below, as with crypto/tls.
func (w *Waiter) NetConn() net.Conn { return w.Conn }

// Pace bounds how many clients are let in at once: those in their handshakes, and those at
// work behind them, which working counts. The others wait for their slots. It holds until it
// is withdrawn or replaced.
func (p *Port) Pace(most int, working func() int) (withdraw func()) {
	mine := &pace{most, working}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = mine
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pace == mine {
			p.pace = nil
		}
	}
}

// pace is what Pace was told.
type pace struct {
	most    int
	working func() int
}

// appoint tells a client when to come again, if it can be told and its turn is not soon.
func (p *Port) appoint(h *holding, said hello) Reason {
	if said.name != WaitName {
		return 0
	}
	h.waits = true
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.come = p.slots.Appoint(&h.ticket, p.now()); h.come > 0 {
		return ReasonWait
	}
	return 0
}

// postpone notes when a client is to come again whose turn did not come in time, and is the
// reason that it goes for.
func (p *Port) postpone(h *holding) Reason {
	if h.waits {
		h.come = p.slots.Postpone(&h.ticket, p.now())
		return ReasonWait
	}
	p.refused(h)
	return ReasonBusy
}

// sayWait is the last word to a client that is to come again.
func sayWait(conn net.Conn, in time.Duration) {
	_ = conn.SetWriteDeadline(time.Now().Add(waitWithin)) // whoever reads nothing hears nothing
	_, _ = conn.Write((&Wait{in}).marshal())
}
