package node

import (
	"errors"
	"os"
	"testing"
	"time"
)

// TestRaftPortIsTheVoters: a member with a good certificate and no vote is
// turned away at the Raft port, and so is a voter that lost its vote; the
// library behind it would take entries from whoever it can talk to.
func TestRaftPortIsTheVoters(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	w.join()
	first, second, fourth := w.members[0], w.members[1], w.members[3]
	w.until("the fourth knows where the first is", func() bool {
		return fourth.Node.members.find(first.trust.Key.ID()).Index != 0
	})
	w.until("the fourth has no vote", func() bool { return !first.inElectorate(fourth.trust.Key.ID()) })
	admitted := func(m *member, within time.Duration) bool {
		t.Helper()
		conn, err := raftLayer{node: m.Node}.Dial(w.Context(), first.trust.Key.ID())
		w.ok(err)
		defer conn.Close()
		w.ok(conn.SetDeadline(time.Now().Add(within)))
		_, err = conn.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded) // waits for our first word
	}
	if admitted(fourth, hangLimit) {
		t.Error("a member without a vote speaks Raft")
	}
	if !admitted(second, time.Second) {
		t.Error("a voter is turned away")
	}
}
