package replay

const (
	// Size is how many counters, ending with the highest accepted one, the
	// window tells apart. Anything older is refused. At 1 Mpps through one SA
	// it spans 8 ms of reordering.
	Size = 8192

	blockBits = 64
	// blocks has one block more than Size needs, because a window that does
	// not end on a block boundary touches that many.
	blocks = Size/blockBits + 1
)
