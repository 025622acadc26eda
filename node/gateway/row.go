package gateway

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// key names a row: one client port, seen at one of this host's addresses,
// speaking to one node.
type key struct {
	client netip.AddrPort
	local  netip.Addr
	node   identity.Index
}

// row is the way back to a client.
type row struct {
	key
	spi    uint32       // of the packet that made it
	prefix netip.Prefix // of the client
	port   *port        // the node answers here
	outer  link.Socket  // the client is answered from here
	made   int64        // clock

	answered atomic.Int64 // clock of the node's last answer, coarse; 0: none yet
	gone     bool         // protected by Gateway.mu, as is place
	place    int          // among its prefix's
}

// confirmed reports whether the node has answered.
func (r *row) confirmed() bool { return r.answered.Load() != 0 }

// answer notes that the node has: that alone keeps a row, for a client's packets
// may be anybody's.
func (r *row) answer(now int64) {
	if last := r.answered.Load(); last == 0 || now-last >= int64(AnswerStep) {
		r.answered.Store(max(now, 1))
	}
}

// idle reports whether the row's time is over.
func (r *row) idle(now int64) bool {
	if last := r.answered.Load(); last != 0 {
		return now-last > int64(IdleConfirmed)
	}
	return now-r.made > int64(IdleUnconfirmed)
}

// table is all rows, for the packet path: reads take a read lock on one shard
// of many, writes happen when a row is made or goes.
type table struct{ shards [shards]shard }

type shard struct {
	mu   sync.RWMutex // protects rows
	rows map[key]*row
	_    [32]byte // keeps neighbours' locks off this cache line
}

func newTable() *table {
	t := new(table)
	for i := range t.shards {
		t.shards[i].rows = map[key]*row{}
	}
	return t
}

func (t *table) shard(k *key) *shard {
	a := k.client.Addr().As16()
	h := binary.BigEndian.Uint64(a[:]) ^ binary.BigEndian.Uint64(a[8:])
	h ^= uint64(k.client.Port())<<32 ^ uint64(k.node)<<48
	hi, lo := bits.Mul64(h^0x9e3779b97f4a7c15, 0xd6e8feb86659fd93)
	return &t.shards[(hi^lo)%shards]
}

func (t *table) find(k *key) *row {
	s := t.shard(k)
	s.mu.RLock()
	r := s.rows[*k]
	s.mu.RUnlock()
	return r
}

func (t *table) put(r *row) {
	s := t.shard(&r.key)
	s.mu.Lock()
	s.rows[r.key] = r
	s.mu.Unlock()
}

func (t *table) remove(r *row) {
	s := t.shard(&r.key)
	s.mu.Lock()
	delete(s.rows, r.key)
	s.rows = shrunk(s.rows)
	s.mu.Unlock()
}

// each calls visit for every row there was, without a lock held.
func (t *table) each(visit func(*row)) {
	var all []*row
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		all = all[:0]
		for _, r := range s.rows {
			all = append(all, r)
		}
		s.mu.RUnlock()
		for _, r := range all {
			visit(r)
		}
	}
}
