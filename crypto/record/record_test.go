package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// testKey is a key of this many equal bytes.
func testKey(b byte) Key { return newKey(bytes.Repeat([]byte{b}, keySize+ivSize)) }

// sealed is what a Writer makes of messages, one record each, and its end.
func sealed(t testing.TB, key Key, messages ...string) (records [][]byte) {
	t.Helper()
	var wire bytes.Buffer
	w := NewWriter(&wire, key, nil)
	take := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, bytes.Clone(wire.Bytes()))
		wire.Reset()
	}
	for _, m := range messages {
		_, err := w.Write([]byte(m))
		take(err)
	}
	take(w.Close())
	return records
}

// read is all that a Reader gives of records, and how it ends.
func read(key Key, records ...[]byte) (string, error) {
	got, err := io.ReadAll(NewReader(bytes.NewReader(bytes.Join(records, nil)), key))
	return string(got), err
}

func TestThere(t *testing.T) {
	long := strings.Repeat("long ", MaxContent) // five records
	got, err := read(testKey(1), sealed(t, testKey(1), "one", "two", long)...)
	if err != nil || got != "onetwo"+long {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestForm compares with what RFC 8446 5.2 and 5.3 say, written here once more.
func TestForm(t *testing.T) {
	key := bytes.Repeat([]byte{7}, chacha20poly1305.KeySize)
	iv := []byte("abcdefghijkl")
	records := sealed(t, newKey(append(bytes.Clone(key), iv...)), "first", "second")
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range []string{"first\x17", "second\x17", "\x01\x00\x15"} {
		nonce := bytes.Clone(iv)
		nonce[11] ^= byte(number)
		header := []byte{23, 3, 3, 0, byte(len(want) + 16)}
		if expect := aead.Seal(header, nonce, []byte(want), header); !bytes.Equal(records[number], expect) {
			t.Errorf("record %d is\n%x, want\n%x", number, records[number], expect)
		}
	}
	if got := (*newKey(append(key, iv...)).sealed).nonce(0x0102030405060708); string(got[:4]) != "abcd" || got[4] != 'e'^1 || got[11] != 'l'^8 {
		t.Errorf("the nonce of a large number is %x", got)
	}
}

// TestForgeries: whatever is changed, repeated, left out or out of turn ends the
// reading, and nothing behind it is read.
func TestForgeries(t *testing.T) {
	key := testKey(1)
	records := sealed(t, key, "one", "two", "three")
	flip := func(at int) []byte {
		changed := bytes.Clone(records[1])
		changed[at] ^= 1
		return changed
	}
	for name, c := range map[string]struct {
		records [][]byte
		read    string
		want    error
	}{
		"a record changed in its header":     {[][]byte{records[0], flip(0), records[2]}, "one", ErrRecord},
		"in its version":                     {[][]byte{records[0], flip(2), records[2]}, "one", ErrRecord},
		"in its content":                     {[][]byte{records[0], flip(5), records[2]}, "one", ErrForged},
		"in its tag":                         {[][]byte{records[0], flip(len(records[1]) - 1), records[2]}, "one", ErrForged},
		"repeated":                           {[][]byte{records[0], records[0]}, "one", ErrForged},
		"out of turn":                        {[][]byte{records[1], records[0]}, "", ErrForged},
		"left out":                           {[][]byte{records[0], records[2]}, "one", ErrForged},
		"cut off between records":            {[][]byte{records[0]}, "one", io.ErrUnexpectedEOF},
		"cut off in one":                     {[][]byte{records[0], records[1][:9]}, "one", io.ErrUnexpectedEOF},
		"cut off in a header":                {[][]byte{records[0], records[1][:3]}, "one", io.ErrUnexpectedEOF},
		"cut off before the end was said":    {records[:3], "onetwothree", io.ErrUnexpectedEOF},
		"more behind the end":                {append(records, records[0]), "onetwothree", nil},
		"of another key":                     {sealed(t, testKey(2), "one"), "", ErrForged},
		"longer than a record may be":        {[][]byte{{23, 3, 3, 0x41, 1}}, "", ErrRecord},
		"shorter than any":                   {[][]byte{{23, 3, 3, 0, overhead - 1}}, "", ErrRecord},
		"an alert that everybody could make": {[][]byte{{21, 3, 3, 0, 2, 1, 0}}, "", ErrRecord},
	} {
		if got, err := read(key, c.records...); got != c.read || !errors.Is(err, c.want) {
			t.Errorf("%s: read %q, %v; want %q, %v", name, got, err, c.read, c.want)
		}
	}
}

// TestInside: what a record may carry.
func TestInside(t *testing.T) {
	for name, c := range map[string]struct {
		inner string
		want  error
	}{
		"a message, padded":       {"one\x17\x00\x00\x00", nil},
		"nothing":                 {"\x17", ErrRecord},
		"padding alone":           {"\x00\x00", ErrRecord},
		"an end that is an error": {"\x02\x28\x15", ErrRecord},
		"half an alert":           {"\x01\x15", ErrRecord},
		"keys to change":          {"\x18\x00\x00\x01\x00\x16", ErrRecord},
		"too much":                {strings.Repeat("a", MaxContent+1) + "\x17", ErrRecord},
	} {
		key := *testKey(1).sealed
		nonce := key.nonce(0)
		frame := make([]byte, headerSize)
		putHeader(frame, len(c.inner)+chacha20poly1305.Overhead)
		frame = key.cipher().Seal(frame, nonce[:], []byte(c.inner), frame)
		r := NewReader(bytes.NewReader(frame), testKey(1))
		if _, err := r.Read(make([]byte, 9)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// drops gives bytes one at a time, and says between any two that there are none yet.
type drops struct {
	wire []byte
	dry  bool
}

func (d *drops) Read(b []byte) (int, error) {
	if d.dry = !d.dry; d.dry {
		return 0, os.ErrDeadlineExceeded
	}
	if len(d.wire) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:1], d.wire)
	d.wire = d.wire[n:]
	return n, nil
}

// TestNothingYet: a read that finds less than a record goes on later, and keeps nothing
// between two.
func TestNothingYet(t *testing.T) {
	r := NewReader(&drops{wire: bytes.Join(sealed(t, testKey(1), "one", "two"), nil)}, testKey(1))
	var got []byte
	waited := 0
	for {
		var b [2]byte // less than a record carries
		n, err := r.Read(b[:])
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if waited++; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		if r.Between() && (r.bytes != nil) {
			t.Fatal("it keeps a buffer between two records")
		}
	}
	if string(got) != "onetwo" || waited < 2*(headerSize+overhead) {
		t.Errorf("read %q in %d pieces", got, waited)
	}
}

// ailing takes so many bytes.
type ailing struct {
	bytes.Buffer
	room int
}

var errAiling = errors.New("no more")

func (a *ailing) Write(b []byte) (int, error) {
	n, _ := a.Buffer.Write(b[:min(len(b), a.room)])
	if a.room -= n; n < len(b) {
		return n, errAiling
	}
	return n, nil
}

// ledger keeps what it is told.
type ledger []uint64

func (l *ledger) Reserved(_ [16]byte, first, count uint64) { *l = append(*l, first, count) }

// TestFailedWriteIsTheEnd: nothing is sealed a second time under a number, and what is not
// known to have come is followed by nothing.
func TestFailedWriteIsTheEnd(t *testing.T) {
	wire, told := &ailing{room: 40}, &ledger{}
	w := NewWriter(wire, testKey(1), told)
	if _, err := w.Write([]byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("two")); err != errAiling {
		t.Errorf("a failure below: %v", err)
	}
	wire.room = 1000
	if _, err := w.Write([]byte("two")); err != errAiling {
		t.Errorf("it goes on: %v", err)
	}
	if err := w.Close(); err != errAiling || wire.Len() != 40 {
		t.Errorf("it says an end: %v, %d bytes", err, wire.Len())
	}
	if fmt.Sprint(*told) != "[1 1 2 1]" {
		t.Errorf("the ledger heard %v", *told)
	}
}

func TestNothingBehindTheEnd(t *testing.T) {
	var wire bytes.Buffer
	w := NewWriter(&wire, testKey(1), nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	size := wire.Len()
	if _, err := w.Write([]byte("more")); err != ErrClosed || wire.Len() != size {
		t.Errorf("behind the end: %v", err)
	}
	if err := w.Close(); err != ErrClosed || wire.Len() != size {
		t.Errorf("a second end: %v", err)
	}
}

// TestKeyIsUsedUp: after so many records there is room for the end alone, at both ends.
func TestKeyIsUsedUp(t *testing.T) {
	var wire bytes.Buffer
	w, r := NewWriter(&wire, testKey(1), nil), NewReader(&wire, testKey(1))
	w.next, r.next = MaxRecords-2, MaxRecords-2
	if n, err := w.Write(make([]byte, MaxContent+1)); err != ErrExhausted || n != MaxContent {
		t.Errorf("wrote %d, %v", n, err)
	}
	if _, err := w.Write([]byte("a")); err != ErrExhausted {
		t.Errorf("later: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if got, err := io.ReadAll(r); err != nil || len(got) != MaxContent {
		t.Errorf("read %d, %v", len(got), err)
	}
	r = NewReader(bytes.NewReader(sealed(t, testKey(1), "a")[0]), testKey(1))
	r.next = MaxRecords
	if _, err := r.Read(make([]byte, 1)); err != ErrExhausted {
		t.Errorf("one more: %v", err)
	}
}

// TestBoundary: a reader of whatever size finds the end of a record before what follows.
func TestBoundary(t *testing.T) {
	records := append(sealed(t, testKey(1), "one", "two"), []byte{20, 3, 3, 0, 1, 1}, []byte{22, 3, 3, 0, 0})
	for _, size := range []int{1, 3, 512, 1 << 15} {
		wire := bytes.NewReader(bytes.Join(records, nil))
		b, left := NewBoundary(wire), wire.Len()
		for _, record := range records {
			var got []byte
			for len(got) < len(record) {
				piece := make([]byte, size)
				n, err := b.Read(piece)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, piece[:n]...)
				if b.Between() != (len(got) == len(record)) {
					t.Fatalf("between records after %d of %d bytes: %v", len(got), len(record), b.Between())
				}
			}
			if left -= len(record); !bytes.Equal(got, record) || wire.Len() != left || !b.Between() {
				t.Fatalf("reads of %d took %x of %x, and left %d", size, got, record, wire.Len())
			}
		}
		if _, err := b.Read(make([]byte, 1)); err != io.EOF || b.Between() {
			t.Errorf("the end: %v", err)
		}
	}
}

func TestKeysAreHidden(t *testing.T) {
	key := testKey('K')
	r, w := NewReader(nil, key), NewWriter(nil, key, nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, what := range []any{key, &key, r, w, *r, *w, struct{ k Key }{key}} {
			said := fmt.Sprintf(verb, what)
			if strings.Contains(said, "KKK") || strings.Contains(said, "4b4b") || strings.Contains(said, "75 75") || strings.Contains(said, "0x4b, 0x4b") {
				t.Errorf("%s of a %T: %s", verb, what, said)
			}
		}
	}
}

// TestNoKeysNoChannel: a handshake that gives no keys is none.
func TestNoKeysNoChannel(t *testing.T) {
	_, _, err := Derive(func(string, []byte, int) ([]byte, error) { return nil, errAiling })
	if !errors.Is(err, errAiling) {
		t.Error(err)
	}
}

// FuzzReader: no bytes crash a Reader, none is read that no Writer of its key wrote, and
// how they come in pieces changes nothing.
func FuzzReader(f *testing.F) {
	genuine := bytes.Join(sealed(f, testKey(1), "one", "two"), nil)
	f.Add(genuine)
	f.Add(genuine[:30])
	f.Add([]byte{23, 3, 3, 0x40, 0x11})
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := read(testKey(1), wire)
		if !strings.HasPrefix("onetwo", got) || err == nil && !bytes.HasPrefix(wire, genuine) {
			t.Errorf("read %q, %v", got, err)
		}
		slow, again := io.ReadAll(patient{NewReader(&drops{wire: wire}, testKey(1))})
		if string(slow) != got || fmt.Sprint(again) != fmt.Sprint(err) {
			t.Errorf("at once %q, %v; by drops %q, %v", got, err, slow, again)
		}
		through, _ := io.ReadAll(NewBoundary(bytes.NewReader(wire)))
		if !bytes.Equal(through, wire) {
			t.Errorf("%d of %d bytes passed the boundary", len(through), len(wire))
		}
	})
}

// patient asks again when there is nothing yet.
type patient struct{ io.Reader }

func (p patient) Read(b []byte) (n int, err error) {
	for err = os.ErrDeadlineExceeded; errors.Is(err, os.ErrDeadlineExceeded) && n == 0; {
		n, err = p.Reader.Read(b)
	}
	return n, err
}

// BenchmarkRecord is a beat, sealed and opened.
func BenchmarkRecord(b *testing.B) {
	var wire bytes.Buffer
	w, r := NewWriter(&wire, testKey(1), nil), NewReader(&wire, testKey(1))
	beat := make([]byte, 4)
	b.ReportAllocs()
	for b.Loop() {
		w.next, r.next = 0, 0
		w.Write(beat)
		r.Read(beat)
	}
}

// TestShortRecordMakesLittle: most records of a connection are beats. What is made for one is
// each end's cipher, for no key is kept anywhere else.
func TestShortRecordMakesLittle(t *testing.T) {
	var wire bytes.Buffer
	wire.Grow(1 << 10)
	w, r := NewWriter(&wire, testKey(1), nil), NewReader(&wire, testKey(1))
	var beat, got [4]byte
	if made := testing.AllocsPerRun(100, func() {
		if _, err := w.Write(beat[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, got[:]); err != nil {
			t.Fatal(err)
		}
	}); made > 2 {
		t.Errorf("%v pieces of memory are made for a beat", made)
	}
}
