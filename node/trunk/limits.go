package trunk

import "time"

// Limits of a trunk (I10). Window and MaxBody are part of the protocol: both ends count by
// them.
const (
	// Window is how many bytes of one direction of a stream may be on their way or wait to
	// be read: a login's longest flight with some room.
	Window = 16 << 10
	// MaxBody is the most that one frame carries, so that a stream with much to say lets
	// the others speak in between.
	MaxBody = 4 << 10
	// MaxStreams is how many a trunk carries at once. One more is refused.
	MaxStreams = 1 << 14
	// MaxHeld is how many bytes may wait to be read in all streams together. When more
	// come, the streams that most wait in are cut off, until half as many wait.
	MaxHeld = 8 << 20
	// MaxQueue is how many bytes of frames may wait to be written: some without data for each
	// stream, and a record of data.
	MaxQueue = 1 << 20
	// maxRecord is how many bytes of data go together: with its length (loop.Pipe) a record of
	// TLS, and so one system call.
	maxRecord = 1<<14 - 2
	// outRoom is how much a trunk keeps, twice, for what it writes next.
	outRoom = 1 << 15
	// readRoom is how much it reads at once.
	readRoom = 2 * (headerSize + MaxBody)
	// Gather is how long frames wait for others when a record was written just before: far
	// less than anybody notices of a login, which crosses a trunk some ten times.
	Gather = 2 * time.Millisecond
	// WriteWithin ends a trunk whose other end takes nothing, though it speaks.
	WriteWithin = 5 * time.Second
	// CloseWithin is how long a trunk that is closed waits for its last words to be taken.
	CloseWithin = 100 * time.Millisecond

	// OpensFree is how many streams may be opened at once, and OpensEach how much later
	// each further one is heard: the reader waits, so one gateway that opens without end
	// waits itself.
	OpensFree = 4096
	OpensEach = time.Second / 4096
)
