package framed

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// appendFrames appends datagrams of segment bytes, the last one may be
// shorter, each behind its length.
func appendFrames(queue, b []byte, segment int) []byte {
	for len(b) > 0 {
		n := min(segment, len(b))
		queue = binary.BigEndian.AppendUint16(queue, uint16(n))
		queue = append(queue, b[:n]...)
		b = b[n:]
	}
	return queue
}

// framedLen is how many bytes appendFrames appends.
func framedLen(n, segment int) int { return n + (n+segment-1)/segment*frameHeader }

// cutter cuts a stream into trains.
type cutter struct{ reader *bufio.Reader }

// train waits for one datagram and takes along what of the same size and SPI
// has arrived with it; the last may be shorter. b holds link.MaxTrain bytes.
func (c *cutter) train(b []byte) (n, segment int, err error) {
	if segment, err = c.length(); err != nil {
		return 0, 0, err
	}
	if segment > len(b) {
		return 0, 0, fmt.Errorf("%w: %d bytes into a buffer of %d", ErrFrame, segment, len(b))
	}
	if err := c.take(b[:segment]); err != nil {
		return 0, 0, err
	}
	n = segment
	for count := 1; count < link.MaxSegments; count++ {
		size, ok := c.next(b[:segment], min(len(b), link.MaxTrain)-n)
		if !ok {
			break
		}
		if err := c.take(b[n : n+size]); err != nil {
			return 0, 0, err
		}
		n += size
		if size < segment {
			break
		}
	}
	return n, segment, nil
}

// length waits for the length of the next frame and leaves it unread.
func (c *cutter) length() (int, error) {
	header, err := c.reader.Peek(frameHeader)
	if err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(header))
	if n == 0 || n > MaxFrame {
		return 0, fmt.Errorf("%w: %d bytes long", ErrFrame, n)
	}
	return n, nil
}

// take reads the frame whose length was seen.
func (c *cutter) take(into []byte) error {
	if _, err := c.reader.Discard(frameHeader); err != nil {
		return err
	}
	_, err := io.ReadFull(c.reader, into)
	return err
}

// next gives the size of the next datagram if it is here as a whole, fits into
// room, and may travel behind first: no longer, and of the same SPI, for a
// train is forwarded by its first. Marked datagrams travel alone.
func (c *cutter) next(first []byte, room int) (size int, ok bool) {
	const spi = 4
	if len(first) < spi || c.reader.Buffered() < frameHeader+spi {
		return 0, false
	}
	head, err := c.reader.Peek(frameHeader + spi)
	if err != nil {
		return 0, false
	}
	size = int(binary.BigEndian.Uint16(head))
	whole := size >= spi && c.reader.Buffered() >= frameHeader+size
	same := [spi]byte(first) != [spi]byte{} && [spi]byte(head[frameHeader:]) == [spi]byte(first)
	return size, whole && same && size <= min(len(first), room)
}
