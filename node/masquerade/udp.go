package masquerade

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/node/netstack"
)

// udp begins a flow of datagrams; it runs in a packet worker, and opening a
// socket does not wait. A destination that refused is said to for a while.
func (e *Egress) udp(r *netstack.UDPRequest) bool {
	f := flow{Flow: r.Flow}
	if why := e.enter(f); why != fine {
		e.refuse(why)
		return false
	}
	outside, err := e.dial(f)
	if err != nil {
		e.refuse(unreached)
		e.table.leave(f)
		return false
	}
	client, err := r.Accept()
	if err != nil {
		outside.Close()
		e.table.leave(f)
		return false
	}
	go e.exchange(f, client, outside)
	return true
}

// exchange passes datagrams both ways until none came for long.
func (e *Egress) exchange(f flow, client, outside net.Conn) {
	x := &exchange{end: func() {
		client.Close()
		outside.Close()
	}}
	x.passed()
	defer x.end()
	if !e.table.carry(f, x.end) {
		e.table.leave(f)
		return
	}
	idle := time.AfterFunc(IdleUDP, x.judge)
	x.timer.Store(idle)
	defer idle.Stop()
	var both sync.WaitGroup
	var up, down error
	both.Go(func() { up = x.pass(outside, client) })
	both.Go(func() { down = x.pass(client, outside) })
	both.Wait()
	if errors.Is(up, unix.ECONNREFUSED) || errors.Is(down, unix.ECONNREFUSED) {
		e.refuse(unreached)
		e.table.leaveFor(f, RefusedFor)
		return
	}
	e.table.leave(f)
}

// exchange is one flow of datagrams.
type exchange struct {
	end   func()
	last  atomic.Int64 // when a datagram passed
	timer atomic.Pointer[time.Timer]
}

func (x *exchange) passed() { x.last.Store(time.Now().UnixNano()) }

// judge ends the flow after IdleUDP of silence, and looks again otherwise.
func (x *exchange) judge() {
	silent := time.Since(time.Unix(0, x.last.Load()))
	if silent >= IdleUDP {
		x.end()
	} else if t := x.timer.Load(); t != nil {
		t.Reset(IdleUDP - silent)
	}
}

// pass copies datagrams one way; the end of it is the end of both.
func (x *exchange) pass(to, from net.Conn) error {
	defer x.end()
	b := datagrams.Get().(*[]byte)
	defer datagrams.Put(b)
	for {
		n, err := from.Read(*b)
		if err != nil {
			return err
		}
		x.passed()
		if _, err := to.Write((*b)[:n]); errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, net.ErrClosed) {
			return err
		} // any other is the loss of one datagram
	}
}

var datagrams = sync.Pool{New: func() any { b := make([]byte, maxDatagram); return &b }}
