package registry

import (
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// told is what is left to read of a session that is over. This process wrote it, so
// there is nothing to refuse.
type told string

func (from *told) fill(to []byte) { *from = (*from)[copy(to, *from):] }

func (from *told) number() uint64 {
	n, length := binary.Uvarint([]byte((*from)[:min(len(*from), binary.MaxVarintLen64)]))
	*from = (*from)[length:]
	return n
}

func (from *told) signed() int64 {
	n, length := binary.Varint([]byte((*from)[:min(len(*from), binary.MaxVarintLen64)]))
	*from = (*from)[length:]
	return n
}

func (from *told) octet() (b uint8) {
	b, *from = (*from)[0], (*from)[1:]
	return b
}

func (from *told) flag() bool { return from.octet() != 0 }

// count is how many follow; some: there is a list, if only an empty one.
func (from *told) count() (n int, some bool) {
	is := from.number()
	return int(max(is, 1) - 1), is > 0
}

// word is a string that shares the memory of what is told.
func (from *told) word() (word string) {
	n, _ := from.count()
	word, *from = string((*from)[:n]), (*from)[n:]
	return word
}

func (from *told) bytes(room *[]byte) []byte {
	n, some := from.count()
	if !some {
		return nil
	}
	b := sized(room, n)
	from.fill(b)
	return b
}

func (from *told) certificate(c *Certificate) {
	from.fill(c.ID[:])
	c.Authority, c.Serial, c.Client = one(from.word()), from.word(), one(from.word())
	c.Ends, c.Revoked = from.signed(), from.flag()
}

func (from *told) slice(agent identity.NodeID, boot identity.BootID) Slice {
	sl := Slice{Agent: agent, Boot: boot, State: SliceVoid}
	sl.Number, sl.Class, sl.Spare = from.octet(), from.octet(), from.flag()
	sl.Epoch, sl.Suite, sl.SPI = uint32(from.number()), uint16(from.number()), uint32(from.number())
	sl.Weight, sl.Index, sl.Term, sl.Since = uint32(from.number()), from.number(), from.number(), Tick(from.number())
	return sl
}
