package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone answers as a server of one zone would.
type zone map[string][]dnsmessage.ResourceBody

var webZone = zone{
	"web.corp.example.": {&dnsmessage.AResource{A: [4]byte{10, 20, 0, 100}},
		&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("fd20::100").As16()}},
	"www.corp.example.": {&dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("web.corp.example.")}},
	"v4.corp.example.":  {&dnsmessage.AResource{A: [4]byte{10, 20, 0, 4}}},
	"txt.corp.example.": {&dnsmessage.TXTResource{TXT: []string{"no address"}}},
}

func (z zone) answer(t *testing.T, packed []byte, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(packed); err != nil {
		t.Errorf("query: %v", err)
		return nil
	}
	m.Response, m.Additionals = true, nil
	name, known := m.Questions[0].Name, false
	for {
		bodies, ok := z[strings.ToLower(name.String())]
		known = known || ok
		next := dnsmessage.Name{}
		for _, body := range bodies {
			r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, Body: body}
			m.Answers = append(m.Answers, r)
			if alias, ok := body.(*dnsmessage.CNAMEResource); ok {
				next = alias.CNAME
			}
		}
		if name = next; name.Length == 0 {
			break
		}
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	if change != nil {
		change(&m)
	}
	out, err := m.Pack()
	if err != nil {
		t.Errorf("answer: %v", err)
	}
	return out
}

// serve makes a resolver of one server by in-memory connections.
func (z zone) serve(t *testing.T, udp, tcp func(*dnsmessage.Message)) Resolver {
	return Resolver{
		Servers: []netip.Addr{netip.MustParseAddr("10.20.0.53")}, Search: []string{"corp.example"},
		Dial: func(_ context.Context, network string, to netip.AddrPort) (net.Conn, error) {
			if to.String() != "10.20.0.53:53" {
				t.Errorf("asked %v", to)
			}
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				if network == "tcp" {
					z.stream(t, far, tcp)
				} else {
					z.datagram(t, far, udp)
				}
			}()
			return near, nil
		},
	}
}

func (z zone) datagram(t *testing.T, c net.Conn, change func(*dnsmessage.Message)) {
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if err != nil {
		return
	}
	// What is not the answer comes first, and is passed over.
	c.Write([]byte("garbage"))
	forged := append([]byte(nil), z.answer(t, b[:n], nil)...)
	forged[0]++
	c.Write(forged)
	c.Write(z.answer(t, b[:n], change))
}

func (z zone) stream(t *testing.T, c net.Conn, change func(*dnsmessage.Message)) {
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	out := z.answer(t, b, change)
	c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...))
}

func addresses(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestLookup(t *testing.T) {
	truncate := func(m *dnsmessage.Message) { m.Truncated, m.Answers = true, nil }
	for name, r := range map[string]Resolver{
		"by UDP": webZone.serve(t, nil, nil),
		"by TCP": webZone.serve(t, truncate, nil),
	} {
		for question, want := range map[string][]netip.Addr{
			"web.corp.example":  addresses("fd20::100", "10.20.0.100"),
			"WEB.corp.Example.": addresses("fd20::100", "10.20.0.100"),
			"web":               addresses("fd20::100", "10.20.0.100"), // below the search domain
			"www.corp.example":  addresses("fd20::100", "10.20.0.100"), // by its alias
			"v4.corp.example":   addresses("10.20.0.4"),
		} {
			if got, err := r.Lookup(t.Context(), question); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %s: %v, %v, want %v", name, question, got, err, want)
			}
		}
		for _, question := range []string{"nowhere.corp.example", "nowhere", "txt.corp.example"} {
			if got, err := r.Lookup(t.Context(), question); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %s: %v, %v", name, question, got, err)
			}
		}
	}
}

func TestLookupFailures(t *testing.T) {
	if _, err := (Resolver{}).Lookup(t.Context(), "web"); !errors.Is(err, ErrNoServers) {
		t.Errorf("no servers: %v", err)
	}
	r := webZone.serve(t, nil, nil)
	for _, bad := range []string{"a..b", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130)} {
		if _, err := r.Lookup(t.Context(), bad); !errors.Is(err, ErrName) {
			t.Errorf("%.20s: %v", bad, err)
		}
	}
	refused := webZone.serve(t, func(m *dnsmessage.Message) { m.RCode, m.Answers = dnsmessage.RCodeRefused, nil }, nil)
	if _, err := refused.Lookup(t.Context(), "web.corp.example"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("a refusal: %v", err)
	}
}

// TestDeadServers: the next server is asked, all of them so often and no more.
func TestDeadServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(map[netip.Addr]int)
		r := Resolver{
			Servers: addresses("10.20.0.1", "10.20.0.2", "10.20.0.3", "10.20.0.4"),
			Dial: func(_ context.Context, _ string, to netip.AddrPort) (net.Conn, error) {
				asked[to.Addr()]++
				near, _ := net.Pipe()
				return near, nil
			},
		}
		begin := time.Now()
		if _, err := r.ask(t.Context(), "web.corp.example", dnsmessage.TypeA); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("silence: %v", err)
		}
		if took := time.Since(begin); len(asked) != MaxServers || asked[r.Servers[0]] != Attempts || took != MaxServers*Attempts*AskTimeout {
			t.Errorf("asked %v in %v", asked, took)
		}
	})
}

// TestLimits: an answer is read so far and no further.
func TestLimits(t *testing.T) {
	many, loop := zone{}, zone{}
	for i := range MaxAnswers + 5 {
		many["many.example."] = append(many["many.example."], &dnsmessage.AResource{A: [4]byte{10, 0, 0, byte(i)}})
	}
	chain := func(i int) string { return "a" + strings.Repeat("b", i) + ".example." }
	for i := range MaxAliases + 1 {
		loop[chain(i)] = []dnsmessage.ResourceBody{&dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(chain(i + 1))}}
	}
	loop[chain(MaxAliases+1)] = []dnsmessage.ResourceBody{&dnsmessage.AResource{A: [4]byte{10, 0, 0, 1}}}
	if got, err := many.serve(t, nil, nil).Lookup(t.Context(), "many.example"); err != nil || len(got) != MaxAnswers {
		t.Errorf("%d addresses, %v", len(got), err)
	}
	if got, err := loop.serve(t, nil, nil).Lookup(t.Context(), "a.example"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a chain of %d aliases: %v, %v", MaxAliases+1, got, err)
	}
	r := Resolver{Search: make([]string, MaxSearch+1)}
	if all := r.candidates("web"); len(all) != MaxSearch+1 {
		t.Errorf("%d names for one", len(all))
	}
}

// FuzzAnswer: whatever a server sends, it is read within limits or refused.
func FuzzAnswer(f *testing.F) {
	q, err := newQuery("www.corp.example", dnsmessage.TypeA)
	if err != nil {
		f.Fatal(err)
	}
	q.id = 0x1234
	binary.BigEndian.PutUint16(q.packed, q.id)
	f.Add(q.packed)
	f.Add(webZone.answer(new(testing.T), q.packed, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := q.read(b)
		if err == nil && (len(a.addresses) > MaxAnswers || len(a.addresses) == 0 && a.err == nil) {
			t.Errorf("%+v", a)
		}
	})
}
