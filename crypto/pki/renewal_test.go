package pki

import (
	"testing"
	"time"
)

func TestNeedsRenewal(t *testing.T) {
	m := newMesh(t, "a")
	at := RenewalOf(m.node[0]).at
	if want := founded().Add(-Backdate + (NodeLife+Backdate)*2/3); !at.Equal(want) {
		t.Errorf("renews at %s, want %s", at, want)
	}
	for what, c := range map[string]struct {
		now  time.Time
		want bool
	}{
		"fresh": {founded(), false}, "just before": {at.Add(-time.Second), false}, "at": {at, true},
		"a week off": {founded().AddDate(0, 0, 7), true}, "clock set back": {founded().Add(-time.Hour), true},
	} {
		if got := NeedsRenewal(m.node[0], c.now); got != c.want {
			t.Errorf("%s: %t, want %t", what, got, c.want)
		}
	}
	if !NeedsRenewal([]byte("damaged"), founded()) {
		t.Error("a damaged certificate needs no renewal")
	}
}

// A mesh that was off for a week: nobody's certificate is valid, yet voters
// recognise each other's keys, a leader mints itself a fresh certificate, and
// every listed node renews its own.
func TestWeekOff(t *testing.T) {
	m := newMesh(t, "a")
	now := founded().AddDate(0, 0, 7)

	_, err := VerifyNode(m.node, m.Certificate(), m.Cluster(), now)
	wantError(t, "after a week", err, ErrExpired)
	if _, err := VerifyNodeKey(m.node, m.Certificate(), m.Cluster()); err != nil {
		t.Fatalf("between voters: %v", err)
	}
	minted, err := m.IssueArbiter(m.key.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyArbiter([][]byte{minted, m.Certificate()}, m.Hash(), m.Cluster(), now); err != nil {
		t.Fatalf("minted arbiter: %v", err)
	}
	peer, err := VerifyRenewal(m.node, m.Certificate(), m.Cluster(), now)
	if err != nil {
		t.Fatalf("renewal: %v", err)
	}
	fresh, err := m.IssueNode(MakeRequest(m.key), peer.Roles, now)
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := VerifyNode([][]byte{fresh}, m.Certificate(), m.Cluster(), now)
	if err != nil || renewed.Key != peer.Key {
		t.Errorf("renewed: %+v, %v", renewed, err)
	}
	if NeedsRenewal(fresh, now) {
		t.Error("a fresh certificate needs renewal")
	}
}

func TestVerifyRenewalEnds(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	end := founded().Add(NodeLife + RenewGrace)
	for _, c := range []struct {
		what  string
		chain [][]byte
		now   time.Time
		want  error
	}{
		{"last second of grace", m.node, end, nil},
		{"a second later", m.node, end.Add(time.Second), ErrExpired},
		{"ahead of its begin", m.node, founded().Add(-Backdate), nil},
		{"wrong CA", other.node, founded(), ErrAuthority},
		{"nothing", nil, founded(), ErrCertificate},
	} {
		_, err := VerifyRenewal(c.chain, m.Certificate(), m.Cluster(), c.now)
		wantError(t, c.what, err, c.want)
	}
}

// Ignoring dates ignores nothing else.
func TestVerifyNodeKeyRefuses(t *testing.T) {
	m, other := newMesh(t, "a"), newMesh(t, "b")
	_, err := VerifyNodeKey(other.node, m.Certificate(), m.Cluster())
	wantError(t, "wrong CA", err, ErrAuthority)
	_, err = VerifyNodeKey(m.node, m.Certificate(), other.Cluster())
	wantError(t, "wrong cluster", err, ErrCluster)
	_, err = VerifyNodeKey(m.node, other.Certificate(), other.Cluster())
	wantError(t, "other mesh", err, ErrAuthority)
}
