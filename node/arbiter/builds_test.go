package arbiter

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// askedToKeep reports whether a node was asked to keep the log.
func askedToKeep(n *nodeStream) (asked bool) {
	for n.Waiting() > 0 {
		asked = asked || n.Take().Standby != nil
	}
	return asked
}

// TestOlderBuildKeepsNoLog: a daemon ends at what it cannot read, so who cannot read
// what the log may hold is not asked, and is named; once upgraded it is asked.
func TestOlderBuildKeepsNoLog(t *testing.T) {
	q := newQuorum(t)
	older := q.member(q.a, "n4", voterToo)
	older.hello.Reads = registry.CommandVersion - 1
	q.silence(q.third, true)
	q.after(VoterSilence + 10*time.Second)
	if askedToKeep(older) || q.a.inRaft(older.node) {
		t.Errorf("a build that cannot read the log keeps it: %v", q.store.log)
	}
	unfit := make(map[identity.NodeID]string)
	if q.a.reportOlder(unfit); len(unfit) != 1 || !strings.Contains(unfit[older.node], "n4 is of an older build and cannot keep the log: upgrade it") {
		t.Errorf("the operator is told %q", unfit)
	}
	older.hello.Reads = registry.CommandVersion
	q.settle()
	q.wantVoters("n1", "n2", "n4")
	unfit = make(map[identity.NodeID]string)
	if q.a.reportOlder(unfit); len(unfit) != 0 {
		t.Errorf("of an upgraded one: %q", unfit)
	}
}

// TestOlderBuildsKeepAnOlderLog: what every server of the log can read, because one that
// reads no more has all of it, another of that build can read too. When that one is gone
// newer commands may be written, and it is too late.
func TestOlderBuildsKeepAnOlderLog(t *testing.T) {
	q := newQuorum(t)
	q.a.newest, q.a.began = false, q.a.config.Now() // a new term of the same servers
	q.second.hello.Reads = registry.CommandVersion - 1
	q.a.lookAtReplicas()
	same, oldest := q.member(q.a, "n4", voterToo), q.member(q.a, "n5", voterToo)
	same.hello.Reads, oldest.hello.Reads = registry.CommandVersion-1, registry.CommandVersion-2
	if q.a.tooOld(same.node) || !q.a.tooOld(oldest.node) {
		t.Errorf("too old: %v of the same build, %v of one before", q.a.tooOld(same.node), q.a.tooOld(oldest.node))
	}
	q.shut(q.second, true)
	q.silence(q.second, true)
	q.after(ServersWithin + time.Second)
	if !q.a.reads(registry.CommandVersion) || !q.a.tooOld(same.node) {
		t.Error("what may be written now it can read, it is thought")
	}
	q.shut(q.second, false)
	q.a.nodes[q.second.node] = q.second
	q.a.lookAtReplicas()
	if r := q.a.replicas[q.second.node]; r.standing != older || !strings.Contains(r.unfit, "upgrade it") {
		t.Errorf("one that was away when that began is %v, %q", r.standing, r.unfit)
	}
}

// TestOlderNamesWhoWasNotHeard: right after an election an older voter may have no
// stream yet, and would stop at what it cannot read.
func TestOlderNamesWhoWasNotHeard(t *testing.T) {
	q := newQuorum(t)
	q.a.began = q.a.config.Now() // a new term
	q.second.hello.Reads = registry.CommandVersion - 1
	delete(q.a.nodes, q.third.node)
	named := func() (older, unheard []string) {
		go func() { (<-q.a.events).apply(q.a) }()
		older, unheard, err := q.a.Older(t.Context())
		q.ok(err)
		return older, unheard
	}
	if older, unheard := named(); !slices.Equal(older, []string{"n2"}) || !slices.Equal(unheard, []string{"n3"}) {
		t.Errorf("older %v, not heard yet %v", older, unheard)
	}
	q.second.hello.Reads = registry.CommandVersion
	q.shut(q.third, true)
	q.now.Add(int64(ServersWithin))
	if older, unheard := named(); len(older)+len(unheard) != 0 {
		t.Errorf("one that is down holds up the policy: older %v, not heard yet %v", older, unheard)
	}
}

// TestOlderBuildIsSentNoBatches: while a server of the log cannot read commands of many
// marks, each slice that came up is marked by a command that it reads.
func TestOlderBuildIsSentNoBatches(t *testing.T) {
	q := newQuorum(t)
	q.second.hello.Boot = identity.BootID{7}
	q.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
	id := q.begun(q.second, 1)
	for _, version := range []byte{batchVersion - 1, batchVersion} {
		q.second.hello.Reads = version
		q.a.judge = session.New(session.Config{Self: q.own, Start: q.a.config.Now(), Random: rand.Reader})
		q.a.lookAtReplicas()
		q.a.step(session.SliceUp{Session: id, Number: 0, Epoch: 1})
		all := proposed(q.a)
		if len(all) == 0 {
			t.Errorf("nothing is marked with a replica that reads version %d", version)
		}
		for _, c := range all {
			raw, err := registry.EncodeCommand(c)
			if q.ok(err); raw[4] > version {
				t.Errorf("a replica that reads version %d is sent %s", version, raw)
			}
			if (c.MarkSlices != nil) != (version == batchVersion) {
				t.Errorf("with a replica that reads version %d: %+v", version, c)
			}
		}
	}
}

// TestOlderBuildIsSentNoRegrants: while a server of the log cannot read resumptions that
// grant slices, a client that comes back without keys has a command that it reads.
func TestOlderBuildIsSentNoRegrants(t *testing.T) {
	q := newQuorum(t)
	q.second.hello.Boot = identity.BootID{7}
	q.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
	id := q.begun(q.second, 1)
	for _, version := range []byte{regrantVersion - 1, regrantVersion} {
		q.second.hello.Reads = version
		q.a.judge = session.New(session.Config{Self: q.own, Start: q.a.config.Now(), Random: rand.Reader})
		q.a.lookAtReplicas()
		q.a.step(session.NodeUp{Node: q.second.node, Boot: q.second.hello.Boot})
		index := uint32(0)
		q.a.config.Store.View(func(s *registry.State) { index = uint32(s.Nodes[q.second.node].Index) })
		q.a.step(session.Prekeys{Node: q.second.node, SPIs: []uint32{index<<20 | 900}})
		proposed(q.a)
		q.a.step(session.Resume{Session: id, Request: registry.RequestID{version}, Key: identity.PublicKey{1}, Hello: make([]byte, 32)})
		all := proposed(q.a)
		if len(all) == 0 {
			t.Errorf("nothing is resumed with a replica that reads version %d", version)
		}
		for _, c := range all {
			raw, err := registry.EncodeCommand(c)
			if q.ok(err); raw[4] > version {
				t.Errorf("a replica that reads version %d is sent %s", version, raw)
			}
			if c.ResumeKey != nil && (len(c.ResumeKey.Slices) > 0) != (version == regrantVersion) {
				t.Errorf("with a replica that reads version %d: %+v", version, c.ResumeKey)
			}
		}
	}
}

// TestReadersAreKnownWithTheirStreams: a crowd comes back to a new arbiter as soon as its
// nodes do, so what they read counts from their streams on, and not from the next look at
// the electorate.
func TestReadersAreKnownWithTheirStreams(t *testing.T) {
	q := newQuorum(t)
	q.second.hello.Boot = identity.BootID{7}
	q.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
	id := q.begun(q.second, 1)
	q.a.judge = session.New(session.Config{Self: q.own, Start: q.a.config.Now(), Random: rand.Reader})
	q.second.hello.Held = []protocol.SliceRef{{Session: id, Number: 0, Epoch: 1}}
	nodeOpened{q.second}.apply(q.a)
	proposed(q.a)
	q.a.step(session.SliceUp{Session: id, Number: 0, Epoch: 1})
	if all := proposed(q.a); len(all) != 1 || all[0].MarkSlices == nil {
		t.Errorf("marked by %+v", all)
	}
}

// TestNotHeardIsNotOlder: a voter whose stream is on its way at the start of a term is
// not called one of an older build when a node with an open interface comes first.
func TestNotHeardIsNotOlder(t *testing.T) {
	q := newQuorum(t)
	var log bytes.Buffer
	q.a.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	q.a.began = q.a.config.Now() // a new term
	delete(q.a.nodes, q.third.node)
	q.second.hello.Exposed = true
	const words = "of an older build: upgrade it"
	if (nodeOpened{q.second}).apply(q.a); strings.Contains(log.String(), words) {
		t.Errorf("n3 was not heard yet: %s", &log)
	}
	q.a.nodes[q.third.node] = q.third
	q.third.hello.Reads = exposedVersion - 1
	if (nodeOpened{q.second}).apply(q.a); !strings.Contains(log.String(), words) {
		t.Errorf("n3 is older: %s", &log)
	}
}
