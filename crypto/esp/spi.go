package esp

import (
	"encoding/binary"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const (
	localBits = 20
	// MaxLocal is the largest local part of an SPI.
	MaxLocal = 1<<localBits - 1
	// minSPI is the first SPI that RFC 4303 2.1 leaves free.
	minSPI = 256
)

// ParseSPI returns the SPI of a datagram that can be a frame: long enough, and
// of an SPI that is not reserved (the non-ESP marker is SPI 0). It says
// nothing about who sealed it.
func ParseSPI(datagram []byte) (spi uint32, ok bool) {
	if len(datagram) < MinFrame {
		return 0, false
	}
	spi = binary.BigEndian.Uint32(datagram)
	return spi, spi >= minSPI
}

// Index returns the node that an SPI belongs to; 0 is no node.
func Index(spi uint32) identity.Index { return identity.Index(spi >> localBits) }

// MakeSPI puts an SPI together from its node and its local part.
func MakeSPI(ix identity.Index, local uint32) uint32 {
	if ix > identity.MaxIndex || local > MaxLocal {
		panic(fmt.Sprintf("esp: no SPI for index %d and local part %d", ix, local))
	}
	return uint32(ix)<<localBits | local
}

func checkSPI(spi uint32) error {
	if spi < minSPI {
		return fmt.Errorf("%w: %d is reserved", ErrSPI, spi)
	}
	return nil
}
