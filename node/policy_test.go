package node

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestSetKey: one key changes and nothing else; what is wrong is refused with what
// would be right.
func TestSetKey(t *testing.T) {
	before := registry.Policy{Version: 3, Headless: 7, Sessions: 4}
	for _, tc := range []struct {
		key, value, words string
		sessions          int
		headless          uint64
	}{
		{control.KeySessions, "8", "", 8, 7},
		{control.KeySessions, "unlimited", "", 0, 7},
		{control.KeySessions, "0", "a number from 1 to", 4, 7},
		{control.KeySessions, "-1", "a number from 1 to", 4, 7},
		{control.KeySessions, "2000000", "a number from 1 to", 4, 7},
		{control.KeySessions, "many", "nor unlimited", 4, 7},
		{"sessions", "8", "these can: sessions-per-client, headless", 4, 7},
		{control.KeyHeadless, "30m", "", 4, 1800},
		{control.KeyHeadless, "1m", "", 4, 60},
		{control.KeyHeadless, "by-voters", "", 4, 0},
		{control.KeyHeadless, "59s", "from 1m0s to 168h0m0s", 4, 7},
		{control.KeyHeadless, "169h", "from 1m0s to 168h0m0s", 4, 7},
		{control.KeyHeadless, "90.5s", "whole seconds", 4, 7},
		{control.KeyHeadless, "900", "such as 30m, nor by-voters", 4, 7},
	} {
		p := before
		key, err := policyKeyOf(tc.key)
		if err == nil {
			err = setKey(&p, key, tc.value)
		}
		var said *control.Error
		if (tc.words == "") != (err == nil) || err != nil && (!errors.As(err, &said) || said.Code != control.CodeUsage || !strings.Contains(err.Error(), tc.words)) {
			t.Errorf("%s %s: %v", tc.key, tc.value, err)
		}
		if p.Sessions != tc.sessions || p.Headless != tc.headless || p.Version != before.Version {
			t.Errorf("%s %s: %+v", tc.key, tc.value, p)
		}
	}
}

// TestPolicyOfALivingMesh: a new mesh limits the sessions of a client, the limit is
// changed over the operator's API, and the pool shows who has it.
func TestPolicyOfALivingMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.connect("erin", 0, w.members[0])
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	w.ok(err)
	founder := w.members[0].Node
	p, err := founder.showPolicy(r, control.Nothing{})
	if err != nil || p.Sessions != FirstSessions || p.Version != 1 || len(p.Pool) == 0 || p.Pool[0].Open != 1 || p.Pool[0].Free != p.Pool[0].Size-1 {
		t.Fatalf("%+v, %v", p, err)
	}
	if p, err = founder.setPolicy(r, control.PolicyRequest{Key: control.KeySessions, Value: "9"}); err != nil || p.Sessions != 9 || p.Version != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	for value, want := range map[string]time.Duration{"2m": 2 * time.Minute, byVoters: registry.HeadlessAlone * time.Second} {
		if p, err = founder.setPolicy(r, control.PolicyRequest{Key: control.KeyHeadless, Value: value}); err != nil || p.Headless != want {
			t.Fatalf("%s: %+v, %v", value, p, err)
		}
	}
	if _, err = founder.setPolicy(r, control.PolicyRequest{Key: "nothing", Value: "9"}); control.CodeOf(err) != control.CodeUsage {
		t.Fatal(err)
	}
}

// TestTwoOperatorsSetThePolicy in the same moment: two keys are both set. Of one key the slower
// operator learns that it was changed, and what to do.
func TestTwoOperatorsSetThePolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	founder := w.members[0].Node
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
	w.ok(err)
	read, err := founder.policy()
	w.ok(err)
	_, err = founder.setPolicy(r, control.PolicyRequest{Key: control.KeyHeadless, Value: "2m"})
	w.ok(err)
	sessions, err := policyKeyOf(control.KeySessions)
	w.ok(err)
	made, err := founder.changePolicy(t.Context(), read, sessions, "9")
	if err != nil || made.Sessions != 9 || made.Headless != 120 || made.Version != read.Version+2 {
		t.Errorf("beside another key: %+v, %v", made, err)
	}
	_, err = founder.changePolicy(t.Context(), read, sessions, "7")
	var said *control.Error
	if !errors.As(err, &said) || said.Code != control.CodeFailed || !strings.Contains(said.Next, "policy show") || !strings.Contains(err.Error(), control.KeySessions) {
		t.Errorf("of one key: %v", err)
	}
	if made, err = founder.changePolicy(t.Context(), read, sessions, "9"); err != nil || made.Sessions != 9 {
		t.Errorf("both want the same: %+v, %v", made, err)
	}
	if is, err := founder.policy(); err != nil || is.Sessions != 9 || is.Headless != 120 {
		t.Errorf("in force is %+v, %v", is, err)
	}
}
