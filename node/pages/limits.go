package pages

const (
	// shelfLen is how many pages are found through one shelf, which is copied with
	// any of them.
	shelfLen = 32
	// fullest and emptiest are how many rows pages have on average before there are
	// twice as many of them, or half.
	fullest  = 8
	emptiest = 1
)
