package main

import (
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestRaftVerbs: the node that is named reaches the daemon, and its refusal the
// operator.
func TestRaftVerbs(t *testing.T) {
	dir, asked := fakeDaemon(t, map[string]any{
		control.OpRaftTransfer: control.Nothing{}, control.OpRaftRemove: control.Nothing{},
		control.OpRaftPeers: control.RaftPeers{Peers: []control.RaftPeer{
			{Name: "a", Leader: true, Voter: true}, {Name: "b", Voter: true, Silent: true}, {Name: "c", Unfit: "let TCP port 6484 in on c"}}},
	})
	for _, c := range []struct {
		args     []string
		op, body string
		says     string
	}{
		{[]string{"transfer-leader"}, control.OpRaftTransfer, `{"name":""}`, "passed on"},
		{[]string{"transfer-leader", "b"}, control.OpRaftTransfer, `{"name":"b"}`, "b is the arbiter"},
		{[]string{"remove-peer", "b"}, control.OpRaftRemove, `{"name":"b"}`, "list-peers"},
	} {
		got := meshcrypt(t, "", append([]string{"operator", "raft"}, append(c.args, "--data-dir", dir)...)...)
		got.want(t, 0, c.says)
		if got.stdout != "" || strings.TrimSpace(asked[c.op]) != c.body {
			t.Errorf("%v: asked %s, printed %q", c.args, asked[c.op], got.stdout)
		}
	}
	if got := meshcrypt(t, "", "operator", "raft", "list-peers", "--data-dir", dir).stdout; !strings.Contains(got, "leader") || !strings.Contains(got, "silent") || !strings.Contains(got, "let TCP port 6484 in on c") {
		t.Errorf("list-peers:\n%s", got)
	}
	meshcrypt(t, "", "operator", "raft", "remove-peer", "--data-dir", dir).want(t, control.CodeUsage)
	meshcrypt(t, "", "operator", "raft", "remove-peer", "b", "c", "--data-dir", dir).want(t, control.CodeUsage)
	meshcrypt(t, "", "operator", "raft", "transfer-leader", "b", "c", "--data-dir", dir).want(t, control.CodeUsage)

	dir, _ = fakeDaemon(t, map[string]any{control.OpRaftRemove: control.Errorf(control.CodeDenied, "do that", "a stays")})
	meshcrypt(t, "", "operator", "raft", "remove-peer", "a", "--data-dir", dir).want(t, control.CodeDenied, "a stays", "next: do that")
	meshcrypt(t, "", "operator", "raft", "remove-peer", "a", "--data-dir", t.TempDir()).want(t, control.CodeUnreachable)
}
