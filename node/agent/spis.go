package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"io"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// localBits is the node's own part of an SPI without what names the start that gave it
// out, startBits; localSPIs is how many of them a process has.
const (
	startBits = 2
	localBits = 20 - startBits
	localSPIs = 1 << localBits
)

// spiOrder is the order in which a process gives out its SPIs: all of them before
// one comes again, as a counter does, and the registry relies on that (Node.Spent).
// None is of those that the last three starts of this node had: their clients go on
// for up to KeysEnd, and under an SPI that means another's SA by now, each of their packets
// would look forged. Whoever sees one cannot tell the next. That is hygiene: nothing rests
// on an SPI being secret. It is owned by the control loop.
type spiOrder struct {
	key   [32]byte // of this boot
	start uint32   // the upper bits of each
	next  uint32
}

// newSPIOrder is that of the start of this number.
func newSPIOrder(random io.Reader, start uint64) (o spiOrder) {
	// A reader that fails leaves a known order, and fails every key made from it.
	_, _ = io.ReadFull(random, o.key[:])
	o.start = uint32(start % (1 << startBits))
	return o
}

// take is the next one.
func (o *spiOrder) take() uint32 {
	spi := o.permuted(o.next)
	o.next = (o.next + 1) % localSPIs
	return spi
}

// permuted is a Feistel network (Luby and Rackoff, 1988) over two halves of nine bits,
// its round function SHA-256 under the key. Four rounds make it a permutation that
// looks random to who cannot choose what goes in.
func (o *spiOrder) permuted(n uint32) uint32 {
	const half = localBits / 2
	const mask = 1<<half - 1
	left, right := n>>half, n&mask
	var block [len(o.key) + 3]byte
	copy(block[:], o.key[:])
	for round := range byte(4) {
		block[len(o.key)] = round
		binary.BigEndian.PutUint16(block[len(o.key)+1:], uint16(right))
		sum := sha256.Sum256(block[:])
		left, right = right, left^uint32(binary.BigEndian.Uint16(sum[:]))&mask
	}
	return o.start<<localBits | left<<half | right
}

// freshSPI returns an SPI of this node that neither a prekey nor a slice uses.
func (a *Agent) freshSPI(index identity.Index) uint32 {
	for {
		spi := esp.MakeSPI(index, a.prekeys.order.take())
		if _, pooled := a.prekeys.secrets[spi]; !pooled && !a.slices.usesSPI(spi) && !a.links.usesSPI(spi) {
			return spi
		}
	}
}
