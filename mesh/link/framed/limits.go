package framed

import "time"

const (
	// MaxFrame is the longest datagram, so that it fits one TLS record.
	MaxFrame = 16<<10 - frameHeader
	// MaxQueue is how many bytes wait before the stream, framed.
	MaxQueue = 512 << 10
	// QueueTime is how long they may wait before the next train is refused:
	// longer than the kernel's queue of a busy link, shorter than what a
	// failure detector takes for silence.
	QueueTime = 100 * time.Millisecond
	// WriteTime is how long the stream may take nothing before it is given up.
	WriteTime = 5 * time.Second

	// readBuffer gathers what arrived together, so that it leaves as one train.
	readBuffer = 64 << 10
	// unsentBytes is how much the kernel queues beyond what it has sent.
	unsentBytes = 128 << 10
	// frameHeader is the length before a datagram.
	frameHeader = 2
)
