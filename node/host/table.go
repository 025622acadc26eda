package host

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// table is one nft table of family inet, whole.
type table struct {
	name   string
	owned  bool // lives as long as its netlink socket, and no flush takes it
	sets   []set
	chains []chain
}

// set is a named set of addresses of one family.
type set struct {
	name   string
	six    bool
	ranges []addressRange
}

// stance is one table as it stands in the kernel.
type stance struct {
	wish table
	// owner is the socket that an owned table belongs to, through which alone it
	// can be changed; nil for a plain table.
	owner *nftables.Conn
	// print is what wish looks like when it is read back.
	print [sha256.Size]byte
	// plain is set where the kernel knows no owners (before 5.12).
	plain bool
}

// whole reports whether the table is as it was put, and as w wants it.
func (s *stance) whole(w table) bool {
	if s.print == [sha256.Size]byte{} || !reflect.DeepEqual(s.wish, w) {
		return false
	}
	print, err := s.read(w)
	return err == nil && print == s.print
}

// put makes the table stand; the chains and sets change in one transaction, so
// there is no moment without those that stood before.
func (s *stance) put(w table) error {
	s.print = [sha256.Size]byte{}
	if err := s.write(w); err != nil {
		s.close()
		if w.owned && errors.Is(err, unix.EPERM) {
			return fmt.Errorf("host: write the nft table %s: %w; run as root, or end another meshcrypt that runs on this host", w.name, err)
		}
		return failed(err, filterNext, "write the nft table %s", w.name)
	}
	print, err := s.read(w)
	if err != nil {
		s.close()
		return failed(err, filterNext, "read the nft table %s", w.name)
	}
	s.wish, s.print = w, print
	return nil
}

// close ends an owned table; a plain one stays.
func (s *stance) close() {
	if s.owner != nil {
		_ = s.owner.CloseLasting() // nothing is left to be told
		s.owner = nil
	}
}

func (s *stance) write(w table) error {
	c, err := s.open(w)
	if err != nil {
		return err
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: w.name}
	if s.owner == nil {
		c.AddTable(t)
		c.DelTable(t)
		c.AddTable(t)
	}
	for i, each := range w.sets {
		if err := each.fill(c, t, uint32(i+1)); err != nil {
			return err
		}
	}
	for _, ch := range w.chains {
		ch.fill(c, t)
	}
	return c.Flush()
}

// open gives the connection to write by; for an owned table that is not there
// yet, it makes it.
func (s *stance) open(w table) (*nftables.Conn, error) {
	if s.owner != nil && s.there(w) {
		return s.owner, nil
	}
	s.close()
	if w.owned && !s.plain {
		owner, err := makeOwned(w.name)
		if err == nil {
			s.owner = owner
			return owner, nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			return nil, err
		}
		s.plain = true
	}
	return nftables.New()
}

// there reports whether the owned table still exists.
func (s *stance) there(w table) bool {
	_, err := s.owner.ListChain(&nftables.Table{Family: nftables.TableFamilyINet, Name: w.name}, w.chains[0].name)
	return err == nil
}

// read gives a print of all that counts of the table: not its counters.
func (s *stance) read(w table) (print [sha256.Size]byte, err error) {
	c := s.owner
	if c == nil {
		if c, err = nftables.New(); err != nil {
			return print, err
		}
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: w.name}
	var all bytes.Buffer
	for _, each := range w.sets {
		elements, err := c.GetSetElements(&nftables.Set{Table: t, Name: each.name, KeyType: each.keyType()})
		if err != nil {
			return print, err
		}
		for _, e := range elements {
			all.Write(e.Key)
			all.WriteString(map[bool]string{true: "-", false: "+"}[e.IntervalEnd])
		}
	}
	for _, ch := range w.chains {
		if err := ch.read(c, t, &all); err != nil {
			return print, err
		}
	}
	return sha256.Sum256(all.Bytes()), nil
}

// read writes what counts of a chain into all.
func (ch chain) read(c *nftables.Conn, t *nftables.Table, all *bytes.Buffer) error {
	if _, err := c.ListChain(t, ch.name); err != nil {
		return err
	}
	rules, err := c.GetRules(t, &nftables.Chain{Name: ch.name, Table: t})
	if err != nil {
		return err
	}
	for _, r := range rules {
		all.WriteByte('\n')
		for _, e := range r.Exprs {
			if _, counts := e.(*expr.Counter); counts {
				continue
			}
			b, err := expr.Marshal(byte(t.Family), e)
			if err != nil {
				return err
			}
			all.Write(b)
		}
	}
	return nil
}

// fill replaces what the set holds, and makes it if it is not there.
func (s set) fill(c *nftables.Conn, t *nftables.Table, id uint32) error {
	// The library numbers sets by a counter of its own that is not for several
	// goroutines, unless they have a number.
	added := &nftables.Set{Table: t, ID: id, Name: s.name, Interval: true, KeyType: s.keyType()}
	if err := c.AddSet(added, nil); err != nil {
		return err
	}
	c.FlushSet(added)
	var elements []nftables.SetElement
	for _, r := range s.ranges {
		elements = append(elements, nftables.SetElement{Key: r.first.AsSlice()})
		if after := r.last.Next(); after.IsValid() { // else it ends with the family
			elements = append(elements, nftables.SetElement{Key: after.AsSlice(), IntervalEnd: true})
		}
	}
	for len(elements) > 0 {
		some := elements[:min(len(elements), maxElements)]
		elements = elements[len(some):]
		if err := c.SetAddElements(added, some); err != nil {
			return err
		}
	}
	return nil
}

func (s set) keyType() nftables.SetDatatype {
	if s.six {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// addressRange is all addresses from first to last.
type addressRange struct{ first, last netip.Addr }

// rangesOf joins sorted prefixes of one family to ranges that do not touch, as
// a set of the kernel takes them.
func rangesOf(prefixes []netip.Prefix, six bool) (all []addressRange) {
	for _, p := range prefixes {
		if p.Addr().Is6() != six {
			continue
		}
		next := addressRange{p.Masked().Addr(), lastOf(p)}
		if n := len(all); n > 0 && (!all[n-1].last.Less(next.first) || all[n-1].last.Next() == next.first) {
			if all[n-1].last.Less(next.last) {
				all[n-1].last = next.last
			}
			continue
		}
		all = append(all, next)
	}
	return all
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}

// tableFlagOwner is NFT_TABLE_F_OWNER of linux/netfilter/nf_tables.h.
const tableFlagOwner = 0x2

// makeOwned makes an empty table, in place of one that is there, which belongs to the
// socket of the connection. The library never sends a table's flags
// (google/nftables 0.3.0), so this one message is made here.
func makeOwned(name string) (*nftables.Conn, error) {
	var socket *netlink.Conn
	c, err := nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(s *netlink.Conn) error {
		socket = s
		return nil
	}))
	if err != nil {
		return nil, err
	}
	if err := sendOwned(socket, name); err != nil {
		return nil, errors.Join(err, c.CloseLasting())
	}
	return c, nil
}

func sendOwned(socket *netlink.Conn, name string) error {
	attributes := []netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(name), 0)}}
	plain, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return err
	}
	owned, err := netlink.MarshalAttributes(append(attributes,
		netlink.Attribute{Type: unix.NFTA_TABLE_FLAGS, Data: []byte{0, 0, 0, tableFlagOwner}}))
	if err != nil {
		return err
	}
	// nfgenmsg: family, version 0 and, of a batch, the subsystem.
	const make, remove = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE, unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE
	batch, table := []byte{0, 0, 0, unix.NFNL_SUBSYS_NFTABLES}, []byte{unix.NFPROTO_INET, 0, 0, 0}
	message := func(kind int, flags netlink.HeaderFlags, data ...[]byte) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data:   bytes.Join(data, nil),
		}
	}
	const acknowledged = 3
	if _, err := socket.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, batch),
		message(make, netlink.Acknowledge|netlink.Create, table, plain),
		message(remove, netlink.Acknowledge, table, plain),
		message(make, netlink.Acknowledge|netlink.Create, table, owned),
		message(unix.NFNL_MSG_BATCH_END, 0, batch),
	}); err != nil {
		return err
	}
	for range acknowledged {
		if _, err := socket.Receive(); err != nil {
			return err
		}
	}
	return nil
}
