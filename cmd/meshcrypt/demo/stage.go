package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

const userName = "ann"

// Stage plays the demo inside the namespaces that Run made for it. All that it
// starts ends with it.
func Stage(ctx context.Context, c Config, dir string) (passed bool, err error) {
	s := newStage(c)
	return s.judge(ctx, func() error {
		err := s.prepare(dir)
		if lack, ok := errors.AsType[*Refused](err); ok {
			lack.tell(c.Stderr)
			return lack
		}
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
			refused := refusal(err, readSetting)
			refused.tell(c.Stderr)
			return refused
		}
		return err
	})
}

func newStage(c Config) *stage {
	return &stage{config: c, nodes: make(map[string]*process), clock: stopwatch(), company: &company{}}
}

// judge plays the demo once it is prepared, and prints the verdict.
func (s *stage) judge(ctx context.Context, prepare func() error) (passed bool, err error) {
	if err := prepare(); err != nil {
		return false, err
	}
	c := s.config
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	machine := watchMachine(watched)
	v, err := s.play(ctx)
	if ctx.Err() != nil {
		return false, nil
	}
	if err != nil {
		s.showLogs()
		if lacked := machine.lacked(); lacked != "" {
			s.say("%s", lacked)
		}
		return false, c.failed(err)
	}
	v.Shows, v.ShowsNot = s.company.site.shows()
	v.lacked = machine.lacked()
	if v.judge(); v.Result != "PASS" {
		s.showLogs()
	}
	if err := v.write(c.Stdout, c.JSON); err != nil {
		return false, err
	}
	if c.Keep {
		err = s.shell(ctx)
	}
	if v.Result != "PASS" && err == nil && ctx.Err() == nil {
		err = c.failed(nil)
	}
	return v.Result == "PASS" && err == nil, err
}

// stage is one demo being played. Its fields belong to the goroutine of play,
// but for ways.
type stage struct {
	config  Config
	company *company
	nodes   map[string]*process
	stays   []*process           // each that is to live as long as the demo
	clock   func() time.Duration // since the stage began
	session string               // ID of the client's session
	ledger  ledger

	mu   sync.Mutex // protects ways
	ways map[string]*Way
}

func (s *stage) prepare(dir string) error {
	if err := seclude(dir); err != nil {
		return err
	}
	if lack := lacking(); lack != nil {
		return lack
	}
	network, err := build(s.config.Nodes)
	if err != nil {
		return err
	}
	return s.settle(network, dir)
}

// settle is where everything is kept and played from now on.
func (s *stage) settle(site site, dir string) error {
	binary, err := executable()
	if err != nil {
		return err
	}
	logs := s.config.Logs
	if logs == "" {
		logs = dir
	}
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return err
	}
	s.company = &company{site: site, binary: binary, dir: dir, logs: logs}
	s.ways = map[string]*Way{wayUp: {Wanted: s.config.bytes()}, wayDown: {Wanted: s.config.bytes()}}
	return nil
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.config.Stderr, format+"\n", args...) }

// play is the whole demo, in the order a user would do it.
func (s *stage) play(ctx context.Context) (*Verdict, error) {
	ready, cancel := context.WithTimeout(ctx, BuildTimeout)
	defer cancel()
	s.say("building a mesh of %d nodes, a client outside, a web server inside", s.config.Nodes)
	for _, step := range []func(ctx, life context.Context) error{
		s.foundMesh, s.joinOthers, s.addClient, s.connectClient, s.startWeb,
	} {
		if err := step(ready, ctx); err != nil {
			return nil, s.cause(err)
		}
	}
	return s.transfer(ctx)
}

// begin starts a host's process that is to live as long as the demo.
func (s *stage) begin(life context.Context, host string, out func(io.Reader), args ...string) (*process, error) {
	p, err := s.company.start(life, host, host, out, args...)
	if err == nil {
		s.stays = append(s.stays, p)
	}
	return p, err
}

// lost is one of these that has ended, though the demo did not kill it.
func (s *stage) lost() *gone {
	for _, p := range s.stays {
		if p.ended() && !p.killed {
			return p.gone()
		}
	}
	return nil
}

// cause is why a step failed: for what it asked has ended, if something has.
func (s *stage) cause(err error) error {
	if lost := s.lost(); lost != nil {
		return lost
	}
	return err
}

// await is until, as long as all live that are to.
func (s *stage) await(ctx context.Context, what string, limit time.Duration, ask func(context.Context) error) error {
	return until(ctx, what, limit, func(ctx context.Context) error {
		if lost := s.lost(); lost != nil {
			return lost
		}
		return ask(ctx)
	})
}

// showLogs prints the end of every log.
func (s *stage) showLogs() {
	last := ""
	if lost := s.lost(); lost != nil {
		last = lost.name
	}
	s.company.showLogs(s.config.Stderr, last)
}

// dataDir is a node's memory.
func (s *stage) dataDir(node string) string { return filepath.Join(s.company.dir, node) }

// call asks a node as an operator on that host would.
func (s *stage) call(ctx context.Context, node, op string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return control.Local(filepath.Join(s.dataDir(node), datadir.SocketName)).Call(ctx, op, in, out)
}

// placeArguments say where a node stands.
func (s *stage) placeArguments(i int) []string {
	return append([]string{"--data-dir", s.dataDir(nodeName(i)), "--name", nodeName(i)}, s.company.site.place(i)...)
}

// foundMesh is `meshcrypt init --run` on the first node. life is how long the
// node may live, ctx how long this step may take.
func (s *stage) foundMesh(ctx, life context.Context) error {
	token := make(chan string, 1)
	read := func(r io.Reader) {
		var founded struct {
			Token string `json:"token"`
		}
		if json.NewDecoder(r).Decode(&founded) == nil {
			token <- founded.Token
		}
		_, _ = io.Copy(io.Discard, r) // whatever else it says on stdout
	}
	args := slices.Concat([]string{"init", "--run", "-o", "json"}, s.company.site.mesh(), s.placeArguments(0))
	founder, err := s.begin(life, nodeName(0), read, args...)
	if err != nil {
		return err
	}
	s.nodes[nodeName(0)] = founder
	select {
	case text := <-token:
		return os.WriteFile(s.tokenFile(), []byte(text), 0o600)
	case <-founder.done:
		return founder.gone()
	case <-ctx.Done():
		return errors.New("meshcrypt init printed no token")
	}
}

func (s *stage) tokenFile() string { return filepath.Join(s.company.dir, "token") }

// joinOthers is `meshcrypt join` on every other node.
func (s *stage) joinOthers(ctx, life context.Context) error {
	if err := s.await(ctx, "the founder's arbiter", BuildTimeout, func(ctx context.Context) error {
		return s.hasArbiter(ctx, nodeName(0))
	}); err != nil {
		return err
	}
	for i := 1; i < s.config.Nodes; i++ {
		args := append([]string{"join", s.company.site.peer(), "--token-file", s.tokenFile()}, s.placeArguments(i)...)
		p, err := s.begin(life, nodeName(i), nil, args...)
		if err != nil {
			return err
		}
		s.nodes[nodeName(i)] = p
	}
	return s.await(ctx, "all nodes up, three of them voters", BuildTimeout, s.meshReady)
}

func (s *stage) hasArbiter(ctx context.Context, node string) error {
	var status control.Status
	if err := s.call(ctx, node, control.OpStatus, control.Nothing{}, &status); err != nil {
		return err
	}
	if status.Arbiter == "" {
		return errors.New(node + " knows no arbiter")
	}
	return nil
}

func (s *stage) meshReady(ctx context.Context) error {
	var m control.Members
	if err := s.call(ctx, nodeName(0), control.OpMembers, control.Nothing{}, &m); err != nil {
		return err
	}
	up, voters := 0, 0
	for _, member := range m.Members {
		if member.State == "up" {
			up++
		}
		if member.Voter {
			voters++
		}
	}
	if up < s.config.Nodes || voters < 3 {
		return fmt.Errorf("%d of %d nodes up, %d voters", up, s.config.Nodes, voters)
	}
	return nil
}

// addClient is `meshcrypt client add` and `client profile`.
func (s *stage) addClient(ctx, _ context.Context) error {
	password := filepath.Join(s.company.dir, "password")
	if err := os.WriteFile(password, []byte("correct horse battery staple\n"), 0o600); err != nil {
		return err
	}
	home := []string{"--data-dir", s.dataDir(nodeName(0))}
	if _, err := s.company.run(ctx, nodeName(0), "operator",
		append([]string{"client", "add", userName, "--password-file", password}, home...)...); err != nil {
		return err
	}
	profile, err := s.company.run(ctx, nodeName(0), "operator", append([]string{"client", "profile", userName}, home...)...)
	if err != nil {
		return err
	}
	return os.WriteFile(s.profileFile(), []byte(profile), 0o600)
}

func (s *stage) profileFile() string { return filepath.Join(s.company.dir, userName+".toml") }

// connectClient is `meshcrypt connect` in the client's namespace.
func (s *stage) connectClient(ctx, life context.Context) error {
	args := append([]string{"connect", "--slice-mode", "burst", "--profile", s.profileFile(),
		"--password-file", filepath.Join(s.company.dir, "password"), "--run-dir", filepath.Join(s.company.dir, "run"),
		"--data-dir", filepath.Join(s.company.dir, clientHost)}, s.company.site.connect()...)
	if _, err := s.begin(life, clientHost, nil, args...); err != nil {
		return err
	}
	return s.await(ctx, "the client's session", BuildTimeout, s.sessionReady)
}

// sessionReady finds the session with all of its slices up.
func (s *stage) sessionReady(ctx context.Context) error {
	list, err := s.sessions(ctx, control.SessionsRequest{})
	if err != nil {
		return err
	}
	for _, one := range list {
		up := 0
		for _, sl := range one.Slices {
			if sl.State == "up" {
				up++
			}
		}
		if one.State == "active" && up > 0 && up == len(one.Slices) {
			s.session = one.ID
			return nil
		}
	}
	return fmt.Errorf("%d sessions, none with all slices up", len(list))
}

// sessions asks any node that lives.
func (s *stage) sessions(ctx context.Context, request control.SessionsRequest) ([]control.Session, error) {
	err := errors.New("no node lives")
	for i := range s.config.Nodes {
		if p := s.nodes[nodeName(i)]; p == nil || p.ended() {
			continue
		}
		var list control.Sessions
		if err = s.call(ctx, nodeName(i), control.OpSessions, request, &list); err == nil {
			return list.Sessions, nil
		}
	}
	return nil, err
}

// startWeb starts the web server behind the mesh.
func (s *stage) startWeb(_, life context.Context) error {
	_, err := s.begin(life, webHost, s.hear, "demo", "web", "--listen", s.company.site.web())
	return err
}

// hear takes the events of one process.
func (s *stage) hear(r io.Reader) {
	lines(r, func(line []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		note(line, s.ways, s.clock())
	})
}

// note takes one line; what is no event of ours says nothing.
func note(line []byte, ways map[string]*Way, at time.Duration) {
	var e event
	if json.Unmarshal(line, &e) != nil {
		return
	}
	if way := ways[e.Way]; way != nil {
		way.take(e, at)
	}
}

// giveUp closes what did not end.
func (s *stage) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, way := range s.ways {
		way.giveUp(s.clock())
	}
}

// way is a transfer as it stands.
func (s *stage) way(name string) Way {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.ways[name]
}

// shell lets the user look around in the client's namespace.
func (s *stage) shell(ctx context.Context) error {
	s.say("%s; `meshcrypt members` asks %s; exit ends the demo", s.company.site.client(), nodeName(0))
	return s.company.shell(ctx, s.config, s.dataDir(nodeName(0)))
}
