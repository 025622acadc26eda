package session

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// rewrite takes what happens for what should: read the difference first.
var rewrite = flag.Bool("rewrite", false, "write the transcripts in testdata anew")

// TestTranscripts runs testdata/*.txt: a command per line, below it, indented,
// the actions that follow from it. Agents and clients answer at once and truly
// unless a command says otherwise. See script.run for the commands.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(want) {
				t.Errorf("%s: %s", file, firstDifference(string(want), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		x, y := "(end)", "(end)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s\nwhole:\n%s", i+1, x, y, got)
		}
	}
	return "equal"
}

// replay runs the commands of a transcript and writes it with what happened.
func replay(t *testing.T, text string) string {
	var out strings.Builder
	s := &script{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		s.emit = func(format string, args ...any) { fmt.Fprintf(&out, "  "+format+"\n", args...) }
		s.run(strings.Fields(line))
		for _, wrong := range s.w.wrong {
			t.Error(wrong)
		}
	}
	return out.String()
}

// script is one transcript under way.
type script struct {
	w    *world
	emit func(format string, args ...any)
}

func (s *script) run(f []string) {
	args := f[1:]
	if f[0] == "mesh" {
		s.mesh(args)
		return
	}
	w := s.w
	switch f[0] {
	case "open": // CLIENT [bandwidth=MBIT] [entered=NODE] [mode=MODE] [shares=SHARES] [device=N]
		c := w.client(args[0])
		c.device = registry.DeviceID{byte(number(args, "device", 0))}
		c.mode, c.shares = registry.Mode(word(args, "mode")), registry.Shares(word(args, "shares"))
		w.ask(c, uint64(number(args, "bandwidth", 0))*1e6, s.entered(args))
	case "again": // CLIENT: the same request once more
		w.askAgain(w.client(args[0]))
	case "resume": // CLIENT [keeps]
		w.resume(w.client(args[0]), has(args, "keeps"))
	case "gone":
		w.clientGone(w.client(args[0]))
	case "dull": // CLIENT brings no slice up
		w.client(args[0]).dull = true
	case "lively":
		w.client(args[0]).dull = false
	case "up": // NODE [boot=N]
		w.nodeUp(w.byName(args[0]), number(args, "boot", w.byName(args[0]).boot))
	case "down":
		w.nodeDown(w.byName(args[0]))
	case "node": // NODE refuse|mute|well
		w.byName(args[0]).behave = strings.TrimPrefix(args[1], "well")
	case "load": // NODE PERCENT [mbit=N]
		w.queue = append(w.queue, Load{
			Node: w.byName(args[0]).id(), Used: float64(integer(args[1])) / 100, Mbit: uint32(number(args, "mbit", 0))})
	case "silent": // CLIENT NUMBER [gone]
		id, sl := s.slice(args)
		w.queue = append(w.queue, SliceSilent{id, sl.Number, sl.Epoch, has(args, "gone")})
	case "speaks": // CLIENT NUMBER [agent]: it is heard again, or its agent says so
		id, sl := s.slice(args)
		w.queue = append(w.queue, SliceUp{id, sl.Number, sl.Epoch, !has(args, "agent")})
	case "heard": // CLIENT device=N ago=DURATION: an agent says so
		w.queue = append(w.queue, s.heard(w.client(args[0]).name, args))
	case "takeover": // NODE [asked]
		w.queue = append(w.queue, Takeover{w.byName(args[0]).id(), w.state.Parts[0].Prefix, has(args, "asked")})
	case "sound": // NODE whole|mended|broken
		is := map[string]Soundness{"whole": Whole, "mended": Mended, "broken": Broken}[args[1]]
		w.queue = append(w.queue, Condition{w.byName(args[0]).id(), is})
	case "drain":
		w.queue = append(w.queue, Drain{w.byName(args[0]).id(), true})
	case "undrain":
		w.queue = append(w.queue, Drain{w.byName(args[0]).id(), false})
	case "end": // CLIENT REASON
		w.queue = append(w.queue, End{w.client(args[0]).session, args[1], 1000})
	case "revoke": // CLIENT, by the operator
		w.must(registry.Command{RevokeClient: &registry.RevokeClient{Name: args[0]}})
	case "unknown": // N [lost]: the next N commits are without outcome
		w.unknown, w.lost = integer(args[0]), has(args, "lost")
	case "recovered": // EPOCHS: that many were given up, and the same node is the arbiter
		w.recovered(uint32(integer(args[0])))
	case "term": // NODE is the arbiter now
		w.newTerm(w.byName(args[0]))
	case "tick": // DURATION in steps of 100 ms
		s.tick(args[0])
		return
	case "show":
		s.show()
		return
	default:
		panic("unknown command " + f[0])
	}
	w.settle()
}

// recovered has the mesh go on in another incarnation.
func (w *world) recovered(epochs uint32) {
	next := w.state.Cluster.Incarnation + 1
	w.must(registry.Command{Reincarnate: &registry.Reincarnate{Incarnation: next, Epochs: epochs}})
}

// mesh makes a mesh: nodes=N [mbit=N] [slices=N] [overload=deny] [bandwidth=MBIT] [voters=N]
// [allowed=MODE,MODE] [sessions=N].
func (s *script) mesh(args []string) {
	policy := registry.Policy{
		Slices: number(args, "slices", 0), Sessions: number(args, "sessions", 0), Bandwidth: uint64(number(args, "bandwidth", 0)) * 1e6,
		Overload: registry.OverloadAbsorb, Mode: registry.ModeBurst,
	}
	if has(args, "overload=deny") {
		policy.Overload = registry.OverloadDeny
	}
	if has(args, "mode=packet") {
		policy.Mode = registry.ModePacket
	}
	if allowed := word(args, "allowed"); allowed != "" {
		policy.Modes = []registry.Mode{policy.Mode}
		for m := range strings.SplitSeq(allowed, ",") {
			policy.Modes = append(policy.Modes, registry.Mode(m))
		}
	}
	s.w = newWorld(number(args, "nodes", 1), policy, uint32(number(args, "mbit", 1000)))
	s.w.must(registry.Command{CountVoters: &registry.CountVoters{Voters: number(args, "voters", 3)}})
	for _, n := range s.w.nodes {
		s.w.nodeUp(n, 1)
	}
	s.w.run(300*time.Millisecond, 100*time.Millisecond)
	s.w.log = func(format string, args ...any) { s.emit(format, args...) }
	if has(args, "verbose") {
		s.show()
	}
}

func (s *script) tick(text string) {
	d, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	w, plain := s.w, s.w.log
	start := w.now
	w.log = func(format string, args ...any) {
		s.emit("+%v "+format, append([]any{w.now - start}, args...)...)
	}
	w.run(d, 100*time.Millisecond)
	w.log = plain
}

func (s *script) show() {
	for _, p := range s.w.state.Parts {
		s.emit("part %v egress %s second %s", p.Prefix, s.w.node(p.Egress).name, s.w.node(p.Second).name)
	}
	for _, ses := range s.w.state.ActiveSessions() {
		for _, sl := range ses.Slices {
			s.emit("%s/%s %s", ses.Client, s.w.slice(sl), sl.State)
		}
		for _, sl := range ses.Retiring {
			s.emit("%s/%s retiring", ses.Client, s.w.slice(sl))
		}
	}
}

func (s *script) heard(client string, args []string) Heard {
	ago, err := time.ParseDuration(word(args, "ago"))
	if err != nil {
		panic(err)
	}
	said := map[registry.SessionID]time.Duration{}
	for _, ses := range s.w.state.ActiveSessions() {
		if ses.Client == client && ses.Device == (registry.DeviceID{byte(number(args, "device", 0))}) {
			said[ses.ID] = ago
		}
	}
	return Heard{Ago: said}
}

func (s *script) slice(args []string) (registry.SessionID, registry.Slice) {
	id := s.w.client(args[0]).session
	sl, found := sliceOf(s.w.state.Sessions.Get(id), uint8(integer(args[1])))
	if !found {
		panic("no such slice")
	}
	return id, sl
}

func (s *script) entered(args []string) identity.NodeID {
	if name := word(args, "entered"); name != "" {
		return s.w.byName(name).id()
	}
	return s.w.nodes[0].id()
}

// word is the value of an argument, empty without it.
func word(args []string, name string) string {
	for _, a := range args {
		if value, found := strings.CutPrefix(a, name+"="); found {
			return value
		}
	}
	return ""
}

func has(args []string, word string) bool {
	for _, a := range args {
		if a == word {
			return true
		}
	}
	return false
}

func number(args []string, name string, otherwise int) int {
	for _, a := range args {
		if value, found := strings.CutPrefix(a, name+"="); found {
			return integer(value)
		}
	}
	return otherwise
}

func integer(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}
