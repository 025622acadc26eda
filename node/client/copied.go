package client

import (
	"context"
	"errors"
	"net"
	"sync"
)

// A machine that was cloned or restored has a copy that may seal with the same keys
// and counters: those of the slices, and those of TLS, whose records count too. So
// nothing of before goes on (I2). The session does: whichever copy comes back last
// has it, and the arbiter tells the other.

// errCopied ends what was begun before.
var errCopied = errors.New("client: this machine was cloned or restored meanwhile")

// life is the TLS connections that were opened since this process, or its latest copy,
// began.
type life struct {
	mu     sync.Mutex // protects what follows
	number int
	open   map[net.Conn]struct{}
}

// present is the number of the life that goes on.
func (l *life) present() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.number
}

// enter keeps a connection, by what lies below its TLS, that was begun in a life; false
// when that is over, and the connection with it.
func (l *life) enter(conn net.Conn, number int) bool {
	below := belowTLS(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if number != l.number {
		below.Close()
		return false
	}
	if l.open == nil {
		l.open = make(map[net.Conn]struct{})
	}
	l.open[below] = struct{}{}
	return true
}

// leave forgets a connection that has ended.
func (l *life) leave(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, belowTLS(conn))
}

// end closes all of them without another record: TLS's own goodbye would be one.
func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	for conn := range l.open {
		conn.Close()
	}
	clear(l.open)
}

func belowTLS(conn net.Conn) net.Conn {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return secure.NetConn()
	}
	return conn
}

// watchGeneration stops everything that has keys before the loop hears of it.
func (c *Client) watchGeneration(ctx context.Context) {
	if c.config.Network == nil {
		return
	}
	err := c.config.Network.WatchGeneration(ctx, func() {
		c.config.Engine.Halt()
		c.copied.Store(true)
		c.life.end()
		c.abandonDial()
		c.must(ctx, copied{})
	})
	if err != nil {
		c.config.Log.Warn("it would not be noticed if this machine were cloned or restored", "error", err)
	}
}

// copied wakes the loop, which does what is due before it does anything else.
type copied struct{}

func (copied) apply(*Client) {}

// superviseCopies begins as after a long sleep when the kernel said that this machine
// was cloned or restored: without keys, by resumption.
func (c *Client) superviseCopies() {
	if !c.copied.Swap(false) {
		return
	}
	now := c.config.Now()
	c.config.Log.Warn("this machine was cloned or restored: all keys are dropped, and the session is asked for again")
	c.restart(now)
	c.leaveStream(now)
	for i := range c.transport.parting {
		c.transport.parting[i].at = now // their connections have ended
	}
	c.publishIfDirty()
	if !c.copied.Load() { // once more meanwhile
		c.config.Engine.Revive()
	}
}
