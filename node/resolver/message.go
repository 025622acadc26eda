package resolver

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// query is one question, packed. Its number is random: whoever guesses it from
// outside would have to break into the tunnel first.
type query struct {
	id       uint16
	question dnsmessage.Question
	packed   []byte
}

func newQuery(name string, kind dnsmessage.Type) (q query, err error) {
	full, err := dnsmessage.NewName(name + ".")
	if err != nil || name == "" || strings.Contains(name, "..") {
		return q, fmt.Errorf("%w: %.80q", ErrName, name)
	}
	var number [2]byte
	rand.Read(number[:])
	q.id = binary.BigEndian.Uint16(number[:])
	q.question = dnsmessage.Question{Name: full, Type: kind, Class: dnsmessage.ClassINET}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: q.id, RecursionDesired: true})
	err = errors.Join(b.StartQuestions(), b.Question(q.question), b.StartAdditionals())
	var edns dnsmessage.ResourceHeader
	err = errors.Join(err, edns.SetEDNS0(maxDatagram, dnsmessage.RCodeSuccess, false),
		b.OPTResource(edns, dnsmessage.OPTResource{}))
	if err != nil {
		return q, fmt.Errorf("%w: %.80q: %w", ErrName, name, err)
	}
	if q.packed, err = b.Finish(); err != nil {
		return q, fmt.Errorf("%w: %.80q: %w", ErrName, name, err)
	}
	return q, nil
}

// answer is what a server said. err is its own verdict, such as ErrNotFound.
type answer struct {
	addresses []netip.Addr
	truncated bool
	err       error
}

// askDatagram passes over what is no answer: it may be late, or forged.
func askDatagram(c net.Conn, q query) (answer, error) {
	if _, err := c.Write(q.packed); err != nil {
		return answer{}, err
	}
	b := make([]byte, maxStream)
	for {
		n, err := c.Read(b)
		if err != nil {
			return answer{}, err
		}
		if a, err := q.read(b[:n]); err == nil {
			return a, nil
		}
	}
}

// askStream is RFC 7766: each message behind its length.
func askStream(c net.Conn, q query) (answer, error) {
	framed := binary.BigEndian.AppendUint16(nil, uint16(len(q.packed)))
	if _, err := c.Write(append(framed, q.packed...)); err != nil {
		return answer{}, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return answer{}, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		return answer{}, err
	}
	return q.read(b)
}

// read reads an answer to this very question.
func (q query) read(b []byte) (a answer, err error) {
	var p dnsmessage.Parser
	head, err := p.Start(b)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errAnswer, err)
	}
	asked, err := p.Question()
	switch {
	case err != nil:
		return a, fmt.Errorf("%w: %w", errAnswer, err)
	case head.ID != q.id || !head.Response || asked.Type != q.question.Type || asked.Class != q.question.Class ||
		!strings.EqualFold(asked.Name.String(), q.question.Name.String()):
		return a, errAnswer
	}
	if err := p.SkipAllQuestions(); err != nil {
		return a, fmt.Errorf("%w: %w", errAnswer, err)
	}
	switch a.truncated = head.Truncated; head.RCode {
	case dnsmessage.RCodeSuccess:
	case dnsmessage.RCodeNameError:
		a.err = ErrNotFound
		return a, nil
	default:
		a.err = fmt.Errorf("the server answered %v", head.RCode)
		return a, nil
	}
	return a, q.collect(&p, &a)
}

// collect takes the addresses of the name and of its aliases, which stand in
// an answer in their order.
func (q query) collect(p *dnsmessage.Parser, a *answer) error {
	name, aliases := q.question.Name.String(), 0
	for len(a.addresses) < MaxAnswers && aliases <= MaxAliases {
		head, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
		ours := strings.EqualFold(head.Name.String(), name) && head.Class == dnsmessage.ClassINET
		switch {
		case ours && head.Type == dnsmessage.TypeCNAME:
			alias, err := p.CNAMEResource()
			if err != nil {
				return fmt.Errorf("%w: %w", errAnswer, err)
			}
			name, aliases = alias.CNAME.String(), aliases+1
		case ours && head.Type == q.question.Type:
			addr, err := address(p, head.Type)
			if err != nil {
				return fmt.Errorf("%w: %w", errAnswer, err)
			}
			a.addresses = append(a.addresses, addr)
		default:
			if err := p.SkipAnswer(); err != nil {
				return fmt.Errorf("%w: %w", errAnswer, err)
			}
		}
	}
	if len(a.addresses) == 0 {
		a.err = ErrNotFound
	}
	return nil
}

func address(p *dnsmessage.Parser, kind dnsmessage.Type) (netip.Addr, error) {
	if kind == dnsmessage.TypeA {
		r, err := p.AResource()
		return netip.AddrFrom4(r.A), err
	}
	r, err := p.AAAAResource()
	return netip.AddrFrom16(r.AAAA), err
}
