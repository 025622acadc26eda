package esp

import "fmt"

// Limits bound the use of one key in one direction. Soft: time to rekey. Hard:
// never again. Both ends of an SA must use the same ones.
type Limits struct {
	SoftPackets, HardPackets uint64
	SoftBytes, HardBytes     uint64
}

const (
	// MaxHardPackets is the most packets a key may ever seal. It lies far
	// enough below 2^32 that the sequence number cannot wrap and that the
	// packet half of Outbound's counter word has room for workers racing past
	// the stop: 16,384 of them, each with MaxReservePackets.
	MaxHardPackets = 1 << 30
	// MaxHardBytes is the most bytes a key may ever seal, for the same reason:
	// 32,768 workers racing, each with MaxReserveBytes.
	MaxHardBytes = 2 << 40
	// MaxReservePackets is the most counters one Reserve hands out: more than
	// a TUN super-packet can have segments.
	MaxReservePackets = 1 << 16
	// MaxReserveBytes is the most bytes one Reserve accounts for.
	MaxReserveBytes = 1 << 26

	// byteUnit is the grain in which Outbound counts bytes, rounded up for
	// each Reserve: the limit may come early, never late.
	byteUnit = 1 << 10
	// scratchSlots is how many workers use one SA at once before the next one
	// has to allocate its nonce.
	scratchSlots = 4
	// warmAfter is how many packets a key carries in one direction before it keeps its
	// cipher: more than the probes of a client at rest in the life of a key, 10 minutes
	// with one in 15 s, and those of a login.
	warmAfter = 128
	// maxKeySize is that of all suites, without the salt.
	maxKeySize = 32
)

// DefaultLimits are 2^28 packets or 256 GiB soft, 2^30 packets or 1.5 TiB hard,
// for every suite: what binds first is the counter, which is ours, and the block
// size of AES, which is 16 bytes with either key. ChaCha20 alone could go further.
// TestLimitsOfEachSuite has the arithmetic.
func DefaultLimits() Limits {
	return Limits{
		SoftPackets: 1 << 28, HardPackets: 1 << 30,
		SoftBytes: 256 << 30, HardBytes: 3 << 39,
	}
}

func (l Limits) check() error {
	if l.SoftPackets == 0 || l.SoftPackets > l.HardPackets || l.HardPackets > MaxHardPackets {
		return fmt.Errorf("%w: packets soft %d, hard %d, at most %d", ErrLimits, l.SoftPackets, l.HardPackets, MaxHardPackets)
	}
	if l.SoftBytes == 0 || l.SoftBytes > l.HardBytes || l.HardBytes > MaxHardBytes {
		return fmt.Errorf("%w: bytes soft %d, hard %d, at most %d", ErrLimits, l.SoftBytes, l.HardBytes, uint64(MaxHardBytes))
	}
	return nil
}
