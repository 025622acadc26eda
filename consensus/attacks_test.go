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

// TestVoterThatSpeaksForTheLeader: a malicious voter signs that the present leader committed
// more than any log can have, and the others believe it of what is at the end of their own
// logs. A leader that was cut off, with entries that nobody else has, then kept those for
// committed, for good, and followed no more. Whoever had the leader for an arbiter itself
// knows better, whichever it heard first, and also in another process.
func TestVoterThatSpeaksForTheLeader(t *testing.T) {
	t.Parallel()
	for name, numbered := range map[string]bool{"with its number": true, "as an older build": false} {
		for when, restarts := range map[string]bool{"while it runs": false, "as it starts": true} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				var told heard
				c := newCluster(t, 3, func(config *Config) { config.Told, config.Known = told.own, told.others })
				victim := c.leader()
				n := c.number(victim)
				c.must(victim, tick(1))
				c.agree(1)
				word := knows(victim)
				word.From = victim.id
				lie := word
				lie.Index, lie.From = 1<<60, id((n+1)%3)
				if !numbered {
					lie.By = ""
				}
				victim.Hold(word)
				c.network.isolate(victim.id)
				for range 3 { // into its own log only
					victim.raft.Apply(encoded(t, c.command(tick(5))), EnqueueTimeout)
				}
				c.until("they are in its log", func() bool { return victim.Stats().Last >= word.Index+3 })
				victim.Learn(lie)
				victim.Hold(word)
				if victim.Behind() {
					t.Error("it believes the lie, and stands no more")
				}
				if restarts {
					c.stop(n)
					told = heard{word, lie}
				}
				c.must(c.leader(), tick(2))
				if restarts {
					c.start(n, false)
				}
				c.network.heal(victim.id)
				c.agree(3)
				if err := c.nodes[n].Disk(); err != nil {
					t.Errorf("it says %v", err)
				}
			})
		}
	}
}

// TestWordOfAnArbiter: of a leadership only its own leader says what it committed, and who had
// it for an arbiter knows whose word that is.
func TestWordOfAnArbiter(t *testing.T) {
	own := Known{Incarnation: 1, Term: 5, Index: 10, By: "a", From: id(0)}
	change := func(by string, from, index int) Known {
		k := own
		k.By, k.From, k.Index = by, id(from), uint64(index)
		return k
	}
	for name, c := range map[string]struct {
		said     Known
		believed bool
	}{
		"its own, later":      {change("a", 0, 20), true},
		"another's":           {change("a", 1, 20), false},
		"without its number":  {change("", 1, 20), false},
		"another leadership":  {change("b", 1, 20), true},
		"its own, older form": {change("", 0, 20), true},
	} {
		var before, after floor
		before.hold(own)
		before.learn(c.said)
		after.learn(c.said)
		after.hold(own)
		for order, f := range map[string]*floor{"heard after": &before, "heard before": &after} {
			if (f.known.Index == 20) != c.believed || (len(f.heard) > 0) != c.believed {
				t.Errorf("%s, %s: %+v", name, order, f.heard)
			}
		}
		before.hold(c.said) // as a later arbiter that lies passes it on
		if (len(before.terms) > 1 || before.terms[0].Index == 20) != c.believed {
			t.Errorf("%s, as an arbiter's word: %+v", name, before.terms)
		}
	}
}
