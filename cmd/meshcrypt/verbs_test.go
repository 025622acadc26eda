package main

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/control"
)

func cluster() identity.ClusterID { return identity.ClusterID{1, 2, 3} }

func degraded() control.Status {
	return control.Status{
		Schema: "meshcrypt.status/v1", Health: "degraded", Problems: []string{"node c: no word for 4 s", "no second voter"},
		Cluster: cluster(), Name: "a", Index: 1, Arbiter: "a", Fence: "1.4", Voter: true, CertLeft: 26 * time.Hour,
		Delivered: map[string]uint64{"up": 5}, Dropped: map[string]uint64{"replay": 2, "auth": 0},
	}
}

func TestStatus(t *testing.T) {
	ok := degraded()
	ok.Health, ok.Problems = "ok", nil
	sick, _ := fakeDaemon(t, map[string]any{control.OpStatus: degraded()})
	well, _ := fakeDaemon(t, map[string]any{control.OpStatus: ok})

	got := meshcrypt(t, "", "status", "--data-dir", sick)
	got.want(t, control.CodeDegraded)
	rest, begins := strings.CutPrefix(got.stdout, "# Health: DEGRADED:\n#   node c: no word for 4 s\n#   no second voter\n")
	if !begins || !strings.Contains(rest, "replay 2") || strings.Contains(rest, "auth 0") {
		t.Errorf("table:\n%s", got.stdout)
	}
	if got := meshcrypt(t, "", "status", "--data-dir", well); got.code != 0 || !strings.HasPrefix(got.stdout, "# Health: ok\n") {
		t.Errorf("%+v", got)
	}
	fresh, _ := fakeDaemon(t, map[string]any{control.OpStatus: control.Status{Health: "degraded", Uptime: time.Second, WordAge: time.Hour}})
	if got := meshcrypt(t, "", "status", "--data-dir", fresh); !strings.Contains(got.stdout, "none known, no word yet") {
		t.Errorf("an hour is the host's: %s", got.stdout)
	}
	for _, c := range []struct {
		dir, check string
		code       int
	}{{sick, "live", 0}, {sick, "ready", 6}, {well, "ready", 0}} {
		if got := meshcrypt(t, "", "status", "--check", c.check, "--data-dir", c.dir); got.code != c.code || got.stdout+got.stderr != "" {
			t.Errorf("check %s: %+v, want code %d and silence", c.check, got, c.code)
		}
	}
}

// TestJSONHasSchema: every verb that gives data says what it is.
func TestJSONHasSchema(t *testing.T) {
	session := control.Session{ID: "4f2a", Client: "ann", State: "active", Slices: []control.Slice{{Agent: "b", In: 1500, Share: 0.5}}}
	dir, _ := fakeDaemon(t, map[string]any{
		control.OpStatus: degraded(), control.OpMembers: control.Members{}, control.OpSessions: control.Sessions{Sessions: []control.Session{session}},
		control.OpTokenCreate: control.TokenCreated{Token: "mct1.x"}, control.OpTokenList: control.Tokens{},
		control.OpClientList: control.Clients{}, control.OpClientProfile: control.Profile{Schema: "meshcrypt.profile/v1", Profile: "x"}, control.OpRaftPeers: control.RaftPeers{},
	})
	for schema, args := range map[string][]string{
		"meshcrypt.status/v1": {"status"}, "meshcrypt.members/v1": {"members"}, "meshcrypt.sessions/v1": {"sessions"},
		"meshcrypt.session/v1": {"sessions", "show", "4f"}, "meshcrypt.token/v1": {"token", "create"}, "meshcrypt.tokens/v1": {"token", "list"},
		"meshcrypt.clients/v1": {"client", "list"}, "meshcrypt.profile/v1": {"client", "profile", "ann"},
		"meshcrypt.raft-peers/v1": {"operator", "raft", "list-peers"},
	} {
		got := meshcrypt(t, "", append(args, "-o", "json", "--data-dir", dir)...)
		var reply struct{ Schema string }
		if err := json.Unmarshal([]byte(got.stdout), &reply); err != nil || reply.Schema != schema {
			t.Errorf("%v: schema %q, %v: %s", args, reply.Schema, err, got.stderr)
		}
	}
}

func TestTables(t *testing.T) {
	lease := netip.MustParseAddr("10.77.0.20")
	dir, _ := fakeDaemon(t, map[string]any{
		control.OpMembers: control.Members{Members: []control.Member{
			{Name: "a", Index: 1, State: "up", May: []string{"voter", "agent"}, Is: []string{"voter"}, Arbiter: true, Voter: true, Load: 0.41},
			{Name: "long-name", Index: 2, State: "silent"}}},
		control.OpSessions: control.Sessions{Sessions: []control.Session{{ID: "4f2a", Client: "ann", State: "ended", Reason: "kicked",
			Leases: []netip.Addr{lease}, Bytes: 1_500_000, Age: 90 * time.Minute}}},
		control.OpTokenCreate: control.TokenCreated{Token: "mct1.h.i.s"},
	})
	lines := strings.Split(meshcrypt(t, "", "members", "--data-dir", dir).stdout, "\n")
	if len(lines) != 4 || strings.Index(lines[0], "INDEX") != strings.Index(lines[1], "1 ") || !strings.Contains(lines[1], "voter,agent") ||
		!strings.Contains(lines[1], "41%") || !strings.Contains(lines[1], "arbiter") {
		t.Errorf("members:\n%s", strings.Join(lines, "\n"))
	}
	got := meshcrypt(t, "", "sessions", "--ended", "--data-dir", dir).stdout
	for _, cell := range []string{"10.77.0.20", "ended (kicked)", "1.5 MB", "1h30m"} {
		if !strings.Contains(got, cell) {
			t.Errorf("sessions lacks %q:\n%s", cell, got)
		}
	}
	if got := meshcrypt(t, "", "token", "create", "--data-dir", dir).stdout; got != "mct1.h.i.s\n" {
		t.Errorf("token create: %q", got)
	}
	dir, _ = fakeDaemon(t, map[string]any{control.OpPolicyShow: control.Policy{}})
	if got := strings.Join(strings.Fields(meshcrypt(t, "", "policy", "show", "--data-dir", dir).stdout), " "); !strings.Contains(got, "slices-per-session 8 ") {
		t.Errorf("policy show: %q", got)
	}
	dir, _ = fakeDaemon(t, map[string]any{control.OpSessions: control.Sessions{}})
	meshcrypt(t, "", "sessions", "show", "77", "--data-dir", dir).want(t, control.CodeUsage, "0 sessions")
}

// TestDaemonsErrors: code, cause and next command pass through.
func TestDaemonsErrors(t *testing.T) {
	dir, _ := fakeDaemon(t, map[string]any{control.OpKick: control.Errorf(control.CodeDenied, "meshcrypt members", "not here")})
	meshcrypt(t, "", "sessions", "kick", "4f", "--data-dir", dir).want(t, control.CodeDenied, "not here", "next: meshcrypt members")
}

// TestPasswordStaysHere: client add hands over the derived public key alone.
func TestPasswordStaysHere(t *testing.T) {
	dir, asked := fakeDaemon(t, map[string]any{control.OpStatus: degraded(), control.OpClientPut: control.Nothing{}})
	got := meshcrypt(t, "canary-9\n", "client", "add", "ann", "--password-file", "-", "--prefix", "10.20.0.0/16", "--bandwidth", "2mbit", "--data-dir", dir)
	got.want(t, 0, "meshcrypt client profile ann")
	var put control.ClientRequest
	if err := json.Unmarshal([]byte(asked[control.OpClientPut]), &put); err != nil {
		t.Fatal(err)
	}
	key, err := auth.DeriveKey([]byte("canary-9"), cluster(), "ann", auth.DefaultCost())
	if err != nil {
		t.Fatal(err)
	}
	if put.Client.PasswordKey != key.Public() || put.Client.Name != "ann" || put.Client.Bandwidth != 2_000_000 || len(put.Client.Prefixes) != 1 {
		t.Errorf("put %+v", put)
	}
	for op, body := range asked {
		if strings.Contains(body, "canary") {
			t.Errorf("%s carried the password: %s", op, body)
		}
	}
	meshcrypt(t, "\n", "client", "add", "ann", "--password-file", "-", "--data-dir", dir).want(t, control.CodeUsage, "empty")
	meshcrypt(t, "", "client", "add", "ann", "--data-dir", dir).want(t, control.CodeUsage, "no terminal", "--password-file")
}

func TestBandwidth(t *testing.T) {
	for text, want := range map[string]uint64{"": 0, "2gbit": 2e9, "500Mbit": 5e8, "64kbit/s": 64e3, "1.5 mbit": 15e5, "1000": 1000, "100tbit": 1e14} {
		if got, err := bandwidth(text); err != nil || got != want {
			t.Errorf("%q = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"fast", "0", "-1mbit", "NaN", "inf", "101tbit", "2gb"} {
		if got, err := bandwidth(text); err == nil {
			t.Errorf("%q = %d, want an error", text, got)
		}
	}
}

// TestClientChangesWhatIsNamed: --replace hands over what its flags name, passwd a
// password alone; and nobody is asked for a password that is not to change.
func TestClientChangesWhatIsNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"prefixes":           {"add", "ann", "--replace", "--prefix", "10.20.0.0/16"},
		"prefixes,bandwidth": {"add", "ann", "--replace", "--prefix", "", "--bandwidth", "2mbit"},
		"login":              {"add", "ann", "--replace", "--ca", "corp"},
		"login,bandwidth":    {"add", "ann", "--replace", "--password-file", "-", "--bandwidth", "2mbit"},
		"password":           {"passwd", "ann", "--password-file", "-"},
		"":                   {"add", "ann", "--password-file", "-", "--bandwidth", "2mbit"},
	} {
		dir, asked := fakeDaemon(t, map[string]any{control.OpStatus: degraded(), control.OpClientPut: control.Nothing{}})
		meshcrypt(t, "secret\n", append(append([]string{"client"}, args...), "--data-dir", dir)...).want(t, 0, "ann")
		var put control.ClientRequest
		if err := json.Unmarshal([]byte(asked[control.OpClientPut]), &put); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(put.Change, ","); got != want || put.Replace != (want != "") {
			t.Errorf("%v: changes %q, replace %v", args, got, put.Replace)
		}
		secret := slices.Contains(args, "-")
		if (put.Client.PasswordKey != identity.PublicKey{}) != secret {
			t.Errorf("%v: a password was handed over, or none: %+v", args, put.Client)
		}
	}
	dir, asked := fakeDaemon(t, map[string]any{control.OpClientEnable: control.Nothing{}})
	meshcrypt(t, "", "client", "enable", "ann", "--data-dir", dir).want(t, 0, "ann may connect again")
	if asked[control.OpClientEnable] == "" {
		t.Error("enable asks for nothing")
	}
	dir, _ = fakeDaemon(t, map[string]any{control.OpStatus: degraded(), control.OpClientPut: control.Errorf(control.CodeFailed, "meshcrypt client passwd ann", "there is a client")})
	meshcrypt(t, "secret\n", "client", "add", "ann", "--password-file", "-", "--data-dir", dir).want(t, control.CodeFailed, "there is a client", "next: meshcrypt client passwd ann")
}
