package mka

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

var rewrite = flag.Bool("rewrite", false, "write the outcomes of testdata/*.txt anew")

// TestTranscripts runs the scripts of testdata. A script is blocks parted by
// an empty line: comments (#), one command, ----, its expected outcome. Only
// commit rewritten outcomes whose change you can explain.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no scripts in testdata")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			must(t, err)
			got := runScript(t, string(want))
			if *rewrite {
				must(t, os.WriteFile(file, []byte(got), 0o644))
			} else if got != string(want) {
				t.Errorf("%s differs; got:\n%s", file, got)
			}
		})
	}
}

func runScript(t *testing.T, script string) string {
	p := newPlay(t)
	var blocks []string
	for block := range strings.SplitSeq(strings.TrimSpace(script), "\n\n") {
		head, _, _ := strings.Cut(block, "\n----")
		lines := strings.Split(head, "\n")
		command := lines[len(lines)-1]
		if !strings.HasPrefix(command, "#") {
			head += "\n----\n" + p.run(command)
		}
		blocks = append(blocks, head)
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

// play is the state of one script: everything made has a name.
type play struct {
	t        *testing.T
	s        *scene
	hellos   map[string][]byte
	secrets  map[string]*PrekeySecret
	prekeys  map[string]SignedPrekey
	grants   map[string]SignedGrant
	agents   map[string]*Agent
	clients  map[string]*Client
	messages map[string][]byte
	parts    map[string][][]byte
	keys     map[string]Keys
}

func newPlay(t *testing.T) *play {
	return &play{
		t: t, s: newScene(t),
		hellos: map[string][]byte{}, secrets: map[string]*PrekeySecret{}, prekeys: map[string]SignedPrekey{},
		grants: map[string]SignedGrant{}, agents: map[string]*Agent{}, clients: map[string]*Client{},
		messages: map[string][]byte{}, parts: map[string][][]byte{}, keys: map[string]Keys{},
	}
}

// args are the key=value words of a command.
type args struct {
	t    *testing.T
	list map[string]string
}

func (a args) text(name, otherwise string) string {
	if v, ok := a.list[name]; ok {
		return v
	}
	return otherwise
}

func (a args) number(name string, otherwise uint64) uint64 {
	v, ok := a.list[name]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 0, 64)
	must(a.t, err)
	return n
}

func (p *play) run(command string) string {
	words := strings.Fields(command)
	a := args{p.t, map[string]string{}}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		a.list[name] = value
	}
	commands := map[string]func(args) (string, error){
		"hello": p.hello, "prekey": p.prekey, "expire": p.expire, "grant": p.grant, "agent": p.agent,
		"client": p.client, "accept": p.accept, "confirm": p.confirm, "flip": p.flip, "keys": p.compare,
		"offer": p.offer, "answer": p.answer, "accept-parts": p.acceptParts, "rekey-confirm": p.rekeyConfirm,
		"mix": p.mix,
	}
	do, ok := commands[words[0]]
	if !ok {
		p.t.Fatalf("unknown command %q", command)
	}
	outcome, err := do(a)
	if err != nil {
		return "refused: " + sentinel(p.t, err)
	}
	return outcome
}

func sentinel(t *testing.T, err error) string {
	for name, s := range map[string]error{
		"ErrMalformed": ErrMalformed, "ErrVersion": ErrVersion, "ErrSignature": ErrSignature,
		"ErrKnock": ErrKnock, "ErrPrekey": ErrPrekey, "ErrFence": ErrFence, "ErrMismatch": ErrMismatch,
		"ErrSuite": ErrSuite, "ErrConfirm": ErrConfirm, "ErrSPI": ErrSPI,
		"ErrEncapsulation": ErrEncapsulation, "ErrOrder": ErrOrder,
	} {
		if errors.Is(err, s) {
			return name
		}
	}
	t.Fatalf("error without a sentinel: %v", err)
	return ""
}

func (p *play) hello(a args) (string, error) {
	h := p.s.offer()
	h.Suites = nil
	for v := range strings.SplitSeq(a.text("suites", "1,2"), ",") {
		n, err := strconv.ParseUint(v, 10, 16)
		must(p.t, err)
		h.Suites = append(h.Suites, esp.Suite(n))
	}
	h.Versions = []uint16{uint16(a.number("version", 1))}
	b := h.Marshal()
	p.hellos[a.text("name", "hello")] = b
	return fmt.Sprintf("%d bytes", len(b)), nil
}

func (p *play) prekey(a args) (string, error) {
	name := a.text("name", "prekey")
	boot := identity.BootID{byte(a.number("boot", 1))}
	spi := esp.MakeSPI(identity.Index(a.number("node", 7)), uint32(a.number("local", 1)))
	var err error
	p.secrets[name], p.prekeys[name], err = NewPrekey(p.s.random, p.s.agents[a.text("of", "a")], boot, spi, 600)
	return fmt.Sprintf("%d bytes, SPI %#08x", len(p.prekeys[name]), spi), err
}

func (p *play) expire(a args) (string, error) {
	p.secrets[a.text("prekey", "prekey")].Expire()
	return "ok", nil
}

func (p *play) grant(a args) (string, error) {
	g := p.s.plainGrant()
	g.HelloHash = HashHello(p.hellos[a.text("hello", "hello")])
	g.SPI = p.secrets[a.text("prekey", "prekey")].SPI()
	g.Epoch, g.Slice = uint32(a.number("epoch", 1)), uint8(a.number("slice", 1))
	g.Incarnation, g.Term = a.number("incarnation", 1), a.number("term", 5)
	g.Suite = esp.Suite(a.number("suite", 1))
	signer := p.s.arbiter
	if a.text("by", "arbiter") == "stranger" {
		signer = p.s.agents["b"]
	}
	if a.text("session-key", "own") == "other" {
		g.SessionKey = p.s.agents["b"].Public()
	}
	sg := SignGrant(signer, g)
	p.grants[a.text("name", "grant")] = sg
	return fmt.Sprintf("%d bytes", len(sg)), nil
}

func share(a args) *Share { return &Share{byte(a.number("share", 1))} }

func (p *play) agent(a args) (string, error) {
	m, err := NewAgent(p.grants[a.text("grant", "grant")], p.s.arbiter.Public(), share(a),
		p.secrets[a.text("prekey", "prekey")], p.s.agents[a.text("of", "a")],
		Fence{a.number("floor-incarnation", 1), a.number("floor-term", 5)})
	if err != nil {
		return "", err
	}
	p.agents[a.text("name", "agent")] = m
	return "ok", nil
}

func (p *play) client(a args) (string, error) {
	name := a.text("name", "client")
	c, message, keys, err := NewClient(p.s.random, p.s.session, p.grants[a.text("grant", "grant")],
		p.s.arbiter.Public(), p.prekeys[a.text("prekey", "prekey")], share(a),
		p.hellos[a.text("hello", "hello")], uint32(a.number("spi", 0x1000)))
	if err != nil {
		return "", err
	}
	p.clients[name], p.keys[name] = c, keys
	p.messages[a.text("as", "accept")] = message
	return fmt.Sprintf("accept of %d bytes, keys in %#08x out %#08x", len(message), keys.SPIIn, keys.SPIOut), nil
}

func (p *play) accept(a args) (string, error) {
	name := a.text("agent", "agent")
	confirm, keys, err := p.agents[name].Accept(p.messages[a.text("message", "accept")])
	if err != nil {
		return "", err
	}
	p.messages[a.text("as", "confirm")] = confirm
	return p.confirmed(name, confirm, keys), nil
}

// confirmed tells of a confirm and says whether a repeat is the cached one.
func (p *play) confirmed(name string, confirm []byte, keys *Keys) string {
	if keys == nil {
		return fmt.Sprintf("confirm of %d bytes again, no keys", len(confirm))
	}
	p.keys[name] = *keys
	return fmt.Sprintf("confirm of %d bytes, keys in %#08x out %#08x", len(confirm), keys.SPIIn, keys.SPIOut)
}

func (p *play) confirm(a args) (string, error) {
	return "ok", p.clients[a.text("client", "client")].Confirm(p.messages[a.text("message", "confirm")])
}

func (p *play) flip(a args) (string, error) {
	name := a.text("message", "accept")
	b := append([]byte(nil), p.messages[name]...)
	b[a.number("byte", 0)] ^= 1 << a.number("bit", 0)
	p.messages[a.text("as", name)] = b
	return "ok", nil
}

func (p *play) compare(a args) (string, error) {
	x, y := p.keys[a.text("agent", "agent")], p.keys[a.text("client", "client")]
	return fmt.Sprintf("up agrees: %v, down agrees: %v, up is down: %v",
		sameKey(x.In, y.Out), sameKey(x.Out, y.In), sameKey(x.In, x.Out)), nil
}

func (p *play) offer(a args) (string, error) {
	name := a.text("prekey", "prekey")
	parts, err := p.agents[a.text("agent", "agent")].Offer(p.s.random, p.secrets[name], p.prekeys[name])
	if err != nil {
		return "", err
	}
	p.parts[a.text("as", "offer")] = parts
	return lengths(parts), nil
}

func lengths(parts [][]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d parts:", len(parts))
	for _, part := range parts {
		fmt.Fprintf(&b, " %d", len(part))
	}
	return b.String()
}

func (p *play) answer(a args) (string, error) {
	name := a.text("client", "client")
	outcome := "incomplete"
	for _, part := range p.parts[a.text("parts", "offer")] {
		parts, keys, err := p.clients[name].OfferPart(p.s.random, part, uint32(a.number("spi", 0x2000)))
		if err != nil {
			return "", err
		}
		if parts == nil {
			continue
		}
		p.parts[a.text("as", "answer")] = parts
		outcome = lengths(parts) + ", no keys"
		if keys != nil {
			p.keys[name] = *keys
			outcome = fmt.Sprintf("%s, keys in %#08x out %#08x", lengths(parts), keys.SPIIn, keys.SPIOut)
		}
	}
	return outcome, nil
}

func (p *play) acceptParts(a args) (string, error) {
	name := a.text("agent", "agent")
	outcome := "incomplete"
	for _, part := range p.parts[a.text("parts", "answer")] {
		confirm, keys, err := p.agents[name].AcceptPart(part)
		if err != nil {
			return "", err
		}
		if confirm != nil {
			p.messages["rekey-confirm"] = confirm
			outcome = p.confirmed(name, confirm, keys)
		}
	}
	return outcome, nil
}

func (p *play) rekeyConfirm(a args) (string, error) {
	body := p.messages[a.text("message", "rekey-confirm")]
	return "ok", p.clients[a.text("client", "client")].RekeyConfirm(body)
}

// mix makes a list of parts from others: mix parts=offer.1,offer.0,other.1 as=x
func (p *play) mix(a args) (string, error) {
	var out [][]byte
	for word := range strings.SplitSeq(a.text("parts", ""), ",") {
		name, index, _ := strings.Cut(word, ".")
		i, err := strconv.Atoi(index)
		must(p.t, err)
		out = append(out, p.parts[name][i])
	}
	p.parts[a.text("as", "mixed")] = out
	return lengths(out), nil
}
