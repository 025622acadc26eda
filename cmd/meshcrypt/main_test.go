package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// invocation is one run of the command line.
type invocation struct {
	code           int
	stdout, stderr string
}

func meshcrypt(t *testing.T, stdin string, args ...string) invocation {
	t.Helper()
	var out, talk bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &talk)
	return invocation{code, out.String(), talk.String()}
}

// want checks the exit code and that stderr holds each of the words.
func (i invocation) want(t *testing.T, code int, words ...string) {
	t.Helper()
	if i.code != code {
		t.Errorf("exit code %d, want %d; stderr: %s", i.code, code, i.stderr)
	}
	for _, word := range words {
		if !strings.Contains(i.stderr, word) {
			t.Errorf("stderr lacks %q:\n%s", word, i.stderr)
		}
	}
}

// fakeDaemon answers operations at the socket of a data directory.
func fakeDaemon(t *testing.T, answers map[string]any) (dataDir string, asked map[string]string) {
	t.Helper()
	dataDir, asked = t.TempDir(), make(map[string]string)
	operations := make(map[string]control.Operation)
	for name, answer := range answers {
		operations[name] = control.Operation{Do: func(_ *http.Request, _ control.Caller, body json.RawMessage) (any, error) {
			asked[name] = string(body)
			err, _ := answer.(error)
			return answer, err
		}}
	}
	listener, err := net.Listen("unix", filepath.Join(dataDir, datadir.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: control.Handler(operations, func(*http.Request) control.Caller { return control.CallerLocal })}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	t.Cleanup(func() { server.Close(); <-done })
	return dataDir, asked
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUsage: each mistake names its cause and the next command, and ends with 2.
func TestUsage(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args  []string
		words []string
	}{
		"unknown command":     {[]string{"tokken"}, []string{`unknown command "tokken"`, "did you mean token", "next: meshcrypt --help"}},
		"unknown sub-command": {[]string{"token", "make"}, []string{`unknown command "make" for meshcrypt token`}},
		"unknown flag":        {[]string{"status", "--frob"}, []string{"--frob", "next: meshcrypt status --help"}},
		"argument missing":    {[]string{"client", "add"}, []string{"next: meshcrypt client add --help"}},
		"output format":       {[]string{"status", "-o", "yaml"}, []string{`"yaml"`, "-o json"}},
		"check":               {[]string{"status", "--check", "well"}, []string{"--check ready"}},
		"run without state":   {[]string{"run"}, []string{"meshcrypt init", "meshcrypt join"}},
		"join without peer":   {[]string{"join"}, []string{"no peer"}},
		"join without token":  {[]string{"join", "192.0.2.1", "--advertise", "192.0.2.9"}, []string{"no terminal", "--token-file"}},
		"unknown egress":      {[]string{"init", "--egress", "bridged"}, []string{`unknown --egress "bridged"`, "--egress masquerade"}},
		"listen":              {[]string{"init", "--listen", "here"}, []string{`"here"`, "--listen 192.0.2.1:6484"}},
		"pool with host bits": {[]string{"init", "--advertise", "192.0.2.9", "--pool", "10.77.1.0/16"}, []string{"--pool 10.77.0.0/16"}},
		"inside interface":    {[]string{"init", "--advertise", "192.0.2.9", "--inside-if", "nosuch0"}, []string{"nosuch0", "ip link"}},
		"moving, no network":  {[]string{"init", "--advertise", "192.0.2.9", "--inside-address", "10.0.0.9"}, []string{"--inside-if"}},
		"DNS out of reach":    {[]string{"init", "--advertise", "192.0.2.9", "--push", "10.0.0.0/8", "--dns", "8.8.8.8"}, []string{"--dns 8.8.8.8", "--push 8.8.8.8/32"}},
		"DNS by name":         {[]string{"init", "--advertise", "192.0.2.9", "--dns", "dns"}, []string{`--dns "dns" is no IP address`}},
		"proxy":               {[]string{"connect", "192.0.2.9#x", "--proxy", "here"}, []string{`"here"`, "--proxy 127.0.0.1:1080"}},
		"proxy for everybody": {[]string{"connect", "192.0.2.9#x", "--proxy", "0.0.0.0:1080"}, []string{"everybody", "--proxy-auth-file"}},
		"capacity":            {[]string{"init", "--advertise", "192.0.2.9", "--capacity=-1"}, []string{"CPUs"}},
		"token uses":          {[]string{"token", "create", "--uses", "0"}, []string{"--uses 0"}},
		"token life":          {[]string{"token", "create", "--ttl", "0s"}, []string{"--ttl 0s"}},
		"suites":              {[]string{"init", "--advertise", "192.0.2.9", "--suites", "rc4"}, []string{`"rc4"`, "--suites aes-256-gcm"}},
		"hand-on":             {[]string{"init", "--advertise", "192.0.2.9", "--hand-on", "shouted"}, []string{`"shouted"`, "--hand-on sealed"}},
		"ca life":             {[]string{"ca", "issue", "ann", "--life", "1ms"}, []string{"--life 1ms"}},
		"ca request":          {[]string{"ca", "issue", "ann", "--csr", "/no/such"}, []string{"/no/such"}},
		"ca no request":       {[]string{"ca", "issue", "ann", "--csr", write(t, "x")}, []string{"openssl req"}},
		"ca import":           {[]string{"ca", "import", "corp", write(t, "x")}, []string{"no certificate in PEM"}},
		"ca revoke nothing":   {[]string{"ca", "revoke"}, []string{"--authority"}},
		"ca revoke both":      {[]string{"ca", "revoke", "1", "--authority", "x"}, []string{"--authority"}},
		"client, two logins":  {[]string{"client", "add", "ann", "--cert", "--psk-file", "x"}, []string{"cert", "psk-file"}},
		"client name":         {[]string{"client", "add", "a b"}, []string{"user name"}},
		"log level":           {[]string{"init", "--advertise", "192.0.2.9", "--run", "--log-level", "loud"}, []string{`"loud"`}},
		"demo seconds":        {[]string{"demo", "--seconds", "1"}, []string{"--seconds 1"}},
		"demo nodes":          {[]string{"demo", "--nodes", "2"}, []string{"--nodes 2"}},
		"demo rate":           {[]string{"demo", "--rate", "5kbit"}, []string{"--rate"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := meshcrypt(t, "", append(c.args, "--data-dir", dir)...)
			got.want(t, control.CodeUsage, append(c.words, "next:")...)
			if got.stdout != "" {
				t.Errorf("stdout: %s", got.stdout)
			}
		})
	}
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"status"}, {"members"}, {"sessions"}, {"leave"}, {"drain"}, {"token", "list"}, {"client", "list"}} {
		meshcrypt(t, "", append(args, "--data-dir", dir)...).want(t, control.CodeUnreachable, "no daemon answers", "next: start it with meshcrypt run")
	}
	meshcrypt(t, "", "disconnect", "--run-dir", dir).want(t, control.CodeUnreachable, "no client runs here", "next: meshcrypt connect")
	if got := meshcrypt(t, "", "status", "--check", "live", "--data-dir", dir); got.code != control.CodeUnreachable || got.stdout+got.stderr != "" {
		t.Errorf("check without a daemon: %+v", got)
	}
}

// TestEveryVerbHasHelp: what it does, how it is called, an example.
func TestEveryVerbHasHelp(t *testing.T) {
	root := (&app{}).root()
	for _, args := range [][]string{
		{"init"}, {"run"}, {"join"}, {"leave"}, {"drain"}, {"undrain"}, {"status"}, {"members"}, {"sessions"},
		{"sessions", "show"}, {"sessions", "kick"}, {"token"}, {"token", "create"}, {"token", "list"}, {"token", "revoke"},
		{"client"}, {"client", "add"}, {"client", "list"}, {"client", "revoke"}, {"client", "profile"},
		{"ca"}, {"ca", "show"}, {"ca", "issue"}, {"ca", "import"}, {"ca", "revoke"},
		{"operator"}, {"operator", "raft"}, {"operator", "raft", "list-peers"}, {"operator", "raft", "transfer-leader"},
		{"connect"}, {"disconnect"}, {"demo"}, {"version"},
	} {
		cmd, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			t.Errorf("%v: no such verb", args)
			continue
		}
		if cmd.Short == "" || !strings.Contains(cmd.Example, "meshcrypt "+strings.Join(args, " ")) {
			t.Errorf("%v: help %q, example %q", args, cmd.Short, cmd.Example)
		}
	}
}

func TestCompletion(t *testing.T) {
	got := meshcrypt(t, "", "__complete", "tok")
	if got.code != 0 || !strings.HasPrefix(got.stdout, "token\t") {
		t.Errorf("%+v", got)
	}
}

func TestVersion(t *testing.T) {
	got := meshcrypt(t, "", "version", "-o", "json")
	var v versionReply
	if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || v.Schema != "meshcrypt.version/v1" || v.Version == "" {
		t.Errorf("%+v, %v", got, err)
	}
}
