package consensus

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// attackMemory is what a replica may take for all rubbish together; each message
// claims more. A stream that waits for the rest is left after rubbishTime.
const (
	attackMemory = 64 << 20
	rubbishTime  = 50 * time.Millisecond
)

// TestRubbishOnAStream: a voter that speaks rubbish, or a Raft of another
// version, loses its stream and nothing else: the others go on, and no length
// that it names is believed before the bytes are there.
func TestRubbishOnAStream(t *testing.T) {
	c := newCluster(t, 3, nil)
	target := c.number(c.leader())
	peer := c.network.at(id((target + 1) % 3))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for what, b := range rubbish() {
		conn, err := peer.Dial(c.ctx(), id(target))
		c.ok(err)
		c.ok(conn.SetDeadline(time.Now().Add(rubbishTime)))
		_, _ = conn.Write(b) // the other side may close first
		if n, err := conn.Read(make([]byte, 1<<10)); err == nil {
			t.Errorf("%s: answered with %d bytes", what, n)
		}
		c.ok(conn.Close())
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc) - int64(before.TotalAlloc); grown > attackMemory {
		t.Errorf("%d MiB were taken for rubbish", grown>>20)
	}
	c.must(c.leader(), tick(1))
	c.agree(1)
}

// TestMalformedRequests: what raft would panic at is refused, and the others go on.
func TestMalformedRequests(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	from, to := c.nodes[(c.number(leader)+1)%3], id((c.number(leader)+2)%3)
	header := from.header()
	garbage := []byte{0xdf, 0xff, 0xff, 0xff, 0xff}
	for what, entries := range map[string][]*raft.Log{
		"no entry":                    {nil},
		"servers that cannot be read": {{Index: 1, Term: 1 << 20, Type: raft.LogConfiguration, Data: garbage}},
		"an entry of no known kind":   {{Index: 1, Term: 1 << 20, Type: raft.LogConfiguration + 1}},
		"entries apart":               {{Index: 1, Term: 1 << 20}, {Index: 3, Term: 1 << 20}},
		"an entry that follows none":  {{Index: 1 << 20, Term: 1 << 20}},
	} {
		ask := raft.AppendEntriesRequest{RPCHeader: header, Term: 1 << 20, Entries: entries, LeaderCommitIndex: 1 << 20}
		if err := from.transport.AppendEntries(serverID(to), serverAddress(to), &ask, new(raft.AppendEntriesResponse)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	snapshot := raft.InstallSnapshotRequest{RPCHeader: header, SnapshotVersion: 1, Term: 1 << 20, LastLogIndex: 1 << 20, LastLogTerm: 1, Configuration: garbage, Size: 3}
	err := from.transport.InstallSnapshot(serverID(to), serverAddress(to), &snapshot, new(raft.InstallSnapshotResponse), strings.NewReader("abc"))
	if err == nil {
		t.Error("a snapshot with servers that cannot be read: taken")
	}
	c.must(c.leader(), tick(1))
	c.agree(1)
}

// rubbish is what a stream may carry instead of Raft: each begins with the
// number of a message, then msgpack that lies.
func rubbish() map[string][]byte {
	random := make([]byte, 64<<10)
	for i, r := 0, rand.New(rand.NewPCG(6484257, 38)); i < len(random); i++ {
		random[i] = byte(r.Uint32())
	}
	all := map[string][]byte{
		"random":             random,
		"an unknown message": append([]byte{250}, random[:100]...),
		"TLS":                {22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3},
	}
	for kind := byte(0); kind < 5; kind++ {
		name := string('0' + rune(kind))
		all["a map of 2^32 entries, "+name] = []byte{kind, 0xdf, 0xff, 0xff, 0xff, 0xff}
		all["bytes of 4 GiB, "+name] = append([]byte{kind, 0x82, 0xa4}, append([]byte("Term"), 0xc6, 0xff, 0xff, 0xff, 0xff)...)
		all["entries of 2^32, "+name] = append([]byte{kind, 0x81, 0xa7}, append([]byte("Entries"), 0xdd, 0xff, 0xff, 0xff, 0xff)...)
		all["nesting, "+name] = append([]byte{kind}, bytes.Repeat([]byte{0x81, 0xa1, 'a'}, 20_000)...)
		all["nothing more, "+name] = []byte{kind}
	}
	return all
}

// at is the layer of a node.
func (m *memory) at(id identity.NodeID) *memoryLayer {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listen[id]
}
