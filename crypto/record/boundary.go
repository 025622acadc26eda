package record

import "io"

// Boundary hands on a stream of records, of TLS too, one at a time: no read of it reaches
// past the end of a record. So whoever reads through it holds nothing of what comes behind
// the last record that he took.
type Boundary struct {
	below  io.Reader
	header [headerSize]byte
	got    int // of the header
	rest   int // of what follows it
	ended  bool
}

// NewBoundary makes one of a stream that begins with a record.
func NewBoundary(below io.Reader) *Boundary { return &Boundary{below: below} }

// Read returns what comes of the present record.
func (r *Boundary) Read(b []byte) (n int, err error) {
	if r.rest == 0 {
		n, err = r.below.Read(b[:min(len(b), headerSize-r.got)])
		r.got += copy(r.header[r.got:], b[:n])
		if r.got == headerSize {
			r.got, r.rest = 0, sizeIn(r.header)
		}
	} else {
		n, err = r.below.Read(b[:min(len(b), r.rest)])
		r.rest -= n
	}
	r.ended = r.ended || err == io.EOF
	return n, err
}

// Between reports that the stream stands between two records, and goes on as far as is
// known.
func (r *Boundary) Between() bool { return r.got == 0 && r.rest == 0 && !r.ended }
