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
	// MaxQueue is how many bytes of frames without data may wait to be written: some for
	// each stream.
	MaxQueue = 1 << 20
	// outRoom is how much a trunk keeps for what it writes next: two frames.
	outRoom = 2 * (headerSize + MaxBody)
	// WriteWithin ends a trunk whose other end takes nothing, though it speaks.
	WriteWithin = 5 * time.Second

	// OpensFree is how many streams may be opened at once, and OpensEach how much later
	// each further one is heard: the reader waits, so one gateway that opens without end
	// waits itself.
	OpensFree = 4096
	OpensEach = time.Second / 4096
)
