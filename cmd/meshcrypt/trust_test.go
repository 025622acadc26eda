package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

func profile(t *testing.T) string { return write(t, profileText("")) }

func profileText(method string) string {
	p := client.Profile{Cluster: cluster(), CAHash: [32]byte{7}, User: "ann", Method: method}
	return strings.Replace(p.Text(), "gateways = []", `gateways = ["192.0.2.1:6484"]`, 1)
}

// TestConnectNeedsATrustAnchor: there is no way to connect to whoever answers.
func TestConnectNeedsATrustAnchor(t *testing.T) {
	good := profile(t)
	hash := pki.FormatHash([32]byte{7})
	for name, c := range map[string]struct {
		args  []string
		words []string
	}{
		"nothing":         {nil, []string{"no mesh was named", "<gateway>#<CA hash>"}},
		"gateway alone":   {[]string{"192.0.2.1"}, []string{"not how to recognise it", "meshcrypt connect 192.0.2.1#<CA hash>", "meshcrypt client profile"}},
		"empty hash":      {[]string{"192.0.2.1#"}, []string{"not how to recognise it"}},
		"short hash":      {[]string{"192.0.2.1#abc"}, []string{"CA hash"}},
		"bad port":        {[]string{"192.0.2.1:0#" + hash, "--user", "ann"}, []string{"port"}},
		"no user":         {[]string{"192.0.2.1#" + hash}, []string{"--user"}},
		"two anchors":     {[]string{"192.0.2.1#" + hash, "--profile", good}, []string{"both"}},
		"no such profile": {[]string{"--profile", "/no/such"}, []string{"/no/such", "meshcrypt client profile"}},
		"not a profile":   {[]string{"--profile", write(t, "gateways = 3\n")}, []string{"profile"}},
		"hash left out":   {[]string{"--profile", write(t, "cluster = \"01020300000000000000000000000000\"\ngateways = [\"192.0.2.1:6484\"]\n")}, []string{"key ca", "trusts anybody"}},
		"unknown key":     {[]string{"--profile", write(t, "insecure = true\n")}, []string{"insecure"}},
		"slice mode":      {[]string{"--profile", good, "--slice-mode", "confetti"}, []string{"confetti"}},
		"slice shares":    {[]string{"--profile", good, "--slice-shares", "most"}, []string{"most", "equal"}},
		"bandwidth":       {[]string{"--profile", good, "--bandwidth", "wide"}, []string{"wide"}},
		"suite":           {[]string{"--profile", good, "--suite", "des"}, []string{`"des"`, "chacha20-poly1305"}},
		"suite twice":     {[]string{"--profile", good, "--suite", "aes-128-gcm,AES-128-GCM"}, []string{"twice"}},
		"two logins":      {[]string{"--profile", good, "--psk-file", "x", "--cert", "y"}, []string{"one way", "--psk-file"}},
		"no key":          {[]string{"--profile", good, "--cert", "y"}, []string{"--key FILE"}},
		"no certificate":  {[]string{"--profile", good, "--cert", "/no/such", "--key", "/no/such"}, []string{"--cert", "/no/such"}},
		"no psk":          {[]string{"--profile", good, "--psk-file", "/no/such"}, []string{"/no/such"}},
		"weak psk":        {[]string{"--profile", good, "--psk-file", write(t, "hunter2")}, []string{"too easy to guess", "/dev/urandom"}},
		"not a pair":      {[]string{"--profile", good, "--cert", write(t, "x"), "--key", write(t, "y")}, []string{"one pair"}},
		"locked key": {[]string{"--profile", good, "--cert", write(t, "x"), "--key", write(t, "-----BEGIN ENCRYPTED PRIVATE KEY-----")},
			[]string{"passphrase", "openssl pkey"}},
		"profile by psk":         {[]string{"--profile", write(t, profileText("psk"))}, []string{"--psk-file FILE"}},
		"profile by certificate": {[]string{"--profile", write(t, profileText("certificate"))}, []string{"--cert FILE"}},
		"profile by magic":       {[]string{"--profile", write(t, profileText("magic"))}, []string{"key method"}},
	} {
		t.Run(name, func(t *testing.T) {
			meshcrypt(t, "", append([]string{"connect"}, c.args...)...).want(t, control.CodeUsage, append(c.words, "next:")...)
		})
	}
}

func TestAnchors(t *testing.T) {
	f := connectFlags{mode: "auto", profile: profile(t)}
	config, err := f.config(t.Context(), nil)
	if err != nil || config.Profile.User != "ann" || config.Profile.CAHash != [32]byte{7} || len(config.Profile.Gateways) != 1 {
		t.Errorf("profile: %+v, %v", config, err)
	}
	f = connectFlags{mode: "auto", user: "bob", bandwidth: "2gbit"}
	config, err = f.config(t.Context(), []string{"192.0.2.1#" + pki.FormatHash([32]byte{7})})
	if err != nil || config.Bandwidth != 2e9 || config.Profile.Gateways[0].String() != "192.0.2.1:6484" {
		t.Errorf("gateway: %+v, %v", config, err)
	}
}

// TestWishes: what is not asked for is left to the mesh, and unsaid.
func TestWishes(t *testing.T) {
	for _, c := range []struct {
		args         []string
		mode, shares string
		udp          bool
	}{
		{nil, "", "", false},
		{[]string{"--slice-mode", "packet", "--slice-shares", "equal", "--spray-udp"}, "packet", "equal", true},
		{[]string{"--slice-mode", "flowlet", "--slice-shares", "capacity"}, "flowlet", "", false},
		{[]string{"--slice-mode", "pin"}, "pin", "", false},
	} {
		var f connectFlags
		flags := pflag.NewFlagSet("connect", pflag.ContinueOnError)
		f.add(flags)
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		f.profile = profile(t)
		config, err := f.config(t.Context(), nil)
		if err != nil || config.Mode != c.mode || config.Shares != c.shares || config.SprayUDP != c.udp {
			t.Errorf("%v: %+v, %v", c.args, config, err)
		}
	}
}

// TestModesOfAMesh: init takes the modes that clients may ask for.
func TestModesOfAMesh(t *testing.T) {
	meshcrypt(t, "", "init", "--data-dir", t.TempDir(), "--advertise", "192.0.2.9", "--slice-modes", "auto,confetti").
		want(t, control.CodeUsage, "confetti", "next:")
	meshcrypt(t, "", "init", "--data-dir", t.TempDir(), "--advertise", "192.0.2.9", "--slice-modes", "pin,auto").want(t, 0)
}

// TestInit: what init prints is enough for the next host, and stdout is data.
func TestInit(t *testing.T) {
	dir := t.TempDir()
	args := []string{"init", "--data-dir", dir, "--advertise", "192.0.2.9", "--name", "a"}
	got := meshcrypt(t, "", append(args, "-o", "json")...)
	got.want(t, 0, "recovery key", "Two hosts", "meshcrypt run")
	var reply foundedReply
	if err := json.Unmarshal([]byte(got.stdout), &reply); err != nil {
		t.Fatal(err)
	}
	token, err := pki.ParseToken(reply.Token)
	if err != nil || pki.FormatHash(token.CAHash) != reply.CAHash || reply.Schema != "meshcrypt.init/v1" || reply.Recovery == "" {
		t.Errorf("%+v, %v", reply, err)
	}
	if want := "echo " + reply.Token + " | sudo meshcrypt join 192.0.2.9:6484 --token-file -"; reply.Join != want {
		t.Errorf("join line %q, want %q", reply.Join, want)
	}
	meshcrypt(t, "", args...).want(t, control.CodeUsage, "member", "next: meshcrypt run")

	t.Run("token of another mesh", func(t *testing.T) {
		other := meshcrypt(t, "", "init", "--data-dir", t.TempDir(), "--advertise", "192.0.2.8", "-o", "json")
		var foreign foundedReply
		if err := json.Unmarshal([]byte(other.stdout), &foreign); err != nil {
			t.Fatal(err)
		}
		meshcrypt(t, foreign.Token, "join", "192.0.2.8", "--token-file", "-", "--data-dir", dir).
			want(t, control.CodeUsage, "another mesh", "meshcrypt leave")
	})
}

// TestAMemberNeedsNoToken: a host that is a member runs, whatever became of the file
// that its unit names; a token of another mesh is refused still.
func TestAMemberNeedsNoToken(t *testing.T) {
	var said bytes.Buffer
	a := &app{stdin: strings.NewReader(""), stderr: &said, dataDir: t.TempDir()}
	t.Setenv("MESHCRYPT_TOKEN", "")
	for _, file := range []string{filepath.Join(t.TempDir(), "token"), "-", write(t, ""), write(t, "mct1.worn"), ""} {
		if err := a.checkGiven(datadir.Node{}, file); err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
	if !strings.Contains(said.String(), "a member already") {
		t.Errorf("said: %s", said.String())
	}
}

// TestTheNextCommandIsWhole: with the directory that it is about, and for whom it is.
func TestTheNextCommandIsWhole(t *testing.T) {
	dir := t.TempDir()
	meshcrypt(t, "", "init", "--data-dir", dir, "--advertise", "192.0.2.9").want(t, 0, "Start it: meshcrypt run --data-dir "+dir)
	if line := (&app{dataDir: defaultDataDir}).runLine(); line != "meshcrypt run" {
		t.Errorf("%q", line)
	}
	if f := explain(fmt.Errorf("client: %w", pki.ErrAuthority)); strings.Contains(f.next, "token") || !strings.Contains(f.next, "CA hash") {
		t.Errorf("to a client with a wrong hash: %q", f.next)
	}
	if f := explain(fmt.Errorf("x: %w", node.ErrDamagedLog)); !strings.Contains(f.next, "mv raft raft.away") {
		t.Errorf("about a damaged log: %q", f.next)
	}
	if f := explain(fmt.Errorf("%w: log", node.ErrStuck)); f.code != control.CodeFailed || !strings.Contains(f.next, "meshcrypt run") {
		t.Errorf("about a daemon that ended without a part: %+v", f)
	}
	failed := errors.New("the gateway's table is full")
	if f := explain((&app{}).ended(failed)); f.cause != failed.Error() || strings.Contains(f.next, "meshcrypt status") || !strings.Contains(f.next, "--log-level debug") {
		t.Errorf("about a daemon that was this process, which nobody can ask: %+v", f)
	}
	if f := explain((&app{}).ended(node.ErrStuck)); !strings.Contains(f.next, "meshcrypt run") {
		t.Errorf("about one of which more is known: %+v", f)
	}
	if f := explain(failed); !strings.HasPrefix(f.next, "meshcrypt status") {
		t.Errorf("about what a daemon answered: %+v", f)
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EROFS} {
		if f := explain(fmt.Errorf("x: %w", full)); !strings.Contains(f.next, "--data-dir; then the same command again") {
			t.Errorf("%v: %q", full, f.next)
		}
	}
	nobody := meshcrypt(t, "", "status", "--data-dir", t.TempDir(), "--run-dir", t.TempDir())
	nobody.want(t, control.CodeUnreachable, "meshcrypt run", "meshcrypt connect")
	if sudo := strings.Contains(nobody.stderr, "sudo"); sudo != (os.Geteuid() != 0) {
		t.Errorf("said: %s", nobody.stderr)
	}
}

// TestWhoHasLeftIsDone: whoever started the daemon hears of no failure, also where a part of it
// did not end; the line says so.
func TestWhoHasLeftIsDone(t *testing.T) {
	stuck := fmt.Errorf("%w: log", node.ErrStuck)
	for _, c := range []struct{ how, want error }{
		{node.ErrLeft, nil}, {errors.Join(node.ErrLeft, stuck), nil}, {stuck, foreground{stuck}}, {nil, nil},
	} {
		var said bytes.Buffer
		if err := (&app{stderr: &said}).ended(c.how); err != c.want {
			t.Errorf("%v: %v", c.how, err)
		}
		want := ""
		if errors.Is(c.how, node.ErrLeft) {
			want = strings.ReplaceAll(c.how.Error(), "\n", "; ") + "\n"
		}
		if said.String() != want {
			t.Errorf("%v: said %q", c.how, said.String())
		}
	}
}

// TestNothingIsIssuedForNowhere: where the files cannot be written no certificate is
// made, and no client.
func TestNothingIsIssuedForNowhere(t *testing.T) {
	taken := t.TempDir()
	if err := os.WriteFile(filepath.Join(taken, "dog.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{filepath.Join(taken, "none"), taken} {
		for _, command := range [][]string{{"ca", "issue", "dog"}, {"client", "add", "dog", "--cert"}} {
			dir, asked := fakeDaemon(t, map[string]any{control.OpCAIssue: control.Issued{}, control.OpClientPut: control.Nothing{}, control.OpClientList: control.Clients{}})
			meshcrypt(t, "", append(command, "--data-dir", dir, "--out", out)...).want(t, control.CodeUsage, out, "another --out")
			if len(asked) != 0 {
				t.Errorf("%v --out %s asked for %v", command, out, asked)
			}
		}
	}
}

// TestRegisteredAs: a host is told by which name others know it.
func TestRegisteredAs(t *testing.T) {
	for name, want := range map[string]string{"a": "Registered as a.", "a-2": "Registered as a-2, for another member has the name a."} {
		if got := registeredAs(name, "a"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestJoinErrors: a token that is none, and a peer that does not answer.
func TestJoinErrors(t *testing.T) {
	join := []string{"join", "127.0.0.1:1", "--advertise", "192.0.2.9", "--token-file", "-", "--data-dir", t.TempDir()}
	got := meshcrypt(t, "mct1.secret-canary", join...)
	got.want(t, control.CodeUsage, "malformed join token", "meshcrypt token create")
	if strings.Contains(got.stderr, "canary") {
		t.Errorf("the token was repeated: %s", got.stderr)
	}
	founded := meshcrypt(t, "", "init", "--data-dir", t.TempDir(), "--advertise", "192.0.2.8", "-o", "json")
	var reply foundedReply
	if err := json.Unmarshal([]byte(founded.stdout), &reply); err != nil {
		t.Fatal(err)
	}
	meshcrypt(t, reply.Token, join...).want(t, control.CodeUnreachable, "127.0.0.1:1", "next:")
	t.Setenv("MESHCRYPT_TOKEN", reply.Token)
	meshcrypt(t, "", "join", "127.0.0.1:1", "--advertise", "192.0.2.9", "--data-dir", t.TempDir()).want(t, control.CodeUnreachable)
}

// TestFailuresAreOneLine: what three gateways failed for is one line, and each cause in it once.
func TestFailuresAreOneLine(t *testing.T) {
	alike := errors.Join(errors.New("a: refused"), errors.New("b: no route"), errors.New("a: refused"))
	var said strings.Builder
	(&app{stderr: &said}).sayWaiting(alike, client.FirstWithin)
	if want := "The mesh does not let us in yet; trying for 20s: a: refused; b: no route\n"; said.String() != want {
		t.Errorf("%q, want %q", said.String(), want)
	}
	if f := explain(fmt.Errorf("%w: %w", client.ErrUnreachable, alike)); f.cause != client.ErrUnreachable.Error()+": a: refused; b: no route" {
		t.Errorf("%q", f.cause)
	}
}
