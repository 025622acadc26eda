package trunk

import (
	"encoding/binary"
	"errors"
	"time"
)

// outbound is what a trunk writes. Frames are queued in the order in which they are said, and
// go in records, one at a time:
//
//   - data, when nothing was written for Gather: at once, by who says it;
//   - what is said sooner: when Gather is over, together;
//   - a frame without data: with the data that comes next, or Gather later without;
//   - a record that is full: at once, by who has more.
//
// So a word on a quiet trunk waits for nothing, and a busy trunk writes so many records a
// second at most, however many streams it has, but for full ones. The trunk's lock protects it.
type outbound struct {
	every   time.Duration // Gather
	queue   []byte        // frames that wait: a record of data at most, and frames without
	spare   []byte        // where the next ones are queued while these are written
	writing bool          // somebody writes; the lock is another's meanwhile
	wrote   time.Time     // the end of the last record
	gather  *time.Timer   // writes what waits; nil: nothing ever did
	armed   bool          // it will
	written chan struct{} // closed with the next record's end; nil: nobody waits for that
}

// put queues a frame without data and does not wait; the caller holds mu. It goes ahead of
// all data that is written after it.
func (t *Trunk) put(k kind, stream uint32, body []byte) {
	if t.over {
		return
	}
	t.out.queue = appendFrame(t.out.queue, k, stream, body)
	if len(t.out.queue) > MaxQueue {
		t.out.queue, t.over = nil, true
		go t.cut()
		return
	}
	t.later()
}

// fits reports whether a frame of so many bytes goes with those that wait; the caller holds mu.
func (t *Trunk) fits(body int) bool {
	return len(t.out.queue) == 0 || len(t.out.queue)+headerSize+body <= maxRecord
}

// due reports whether data that waits goes at once; the caller holds mu.
func (o *outbound) due() bool {
	return len(o.queue) > 0 && !o.writing && time.Since(o.wrote) >= o.every
}

// later has what waits written when Gather is over, if nobody writes, who sees to it himself;
// the caller holds mu.
func (t *Trunk) later() {
	o := &t.out
	if o.armed || o.writing || len(o.queue) == 0 {
		return
	}
	o.armed = true
	wait := o.every - time.Since(o.wrote)
	if wait <= 0 {
		wait = o.every
	}
	if o.gather == nil {
		o.gather = time.AfterFunc(wait, t.gathered)
		return
	}
	o.gather.Reset(wait)
}

// gathered writes what was waited for.
func (t *Trunk) gathered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out.armed = false
	if len(t.out.queue) > 0 && !t.out.writing {
		_ = t.write() // it has ended the trunk, and so told everybody
	}
}

// data queues a frame of data.
func (o *outbound) data(stream uint32, piece []byte) {
	o.queue = appendFrame(o.queue, kindData, stream, piece)
}

// write sends what waits, while nobody else writes; the caller holds mu, which is another's
// meanwhile. If it fails the trunk has ended.
func (t *Trunk) write() error { return t.writeBefore(func(*outbound) {}) }

// writeBefore is write, and queue is called when what waited is on its way, for what is to wait
// next.
func (t *Trunk) writeBefore(queue func(*outbound)) error {
	o := &t.out
	if o.armed {
		o.armed = !o.gather.Stop()
	}
	record := o.queue
	o.queue, o.spare, o.writing = o.spare, nil, true
	queue(o)
	within := t.within
	if t.over {
		within = CloseWithin
	}
	_ = t.pipe.SetWriteDeadline(time.Now().Add(within)) // a closed one says so itself
	t.mu.Unlock()
	_, err := t.pipe.Write(record)
	if err != nil {
		t.cut()
	}
	t.mu.Lock()
	if !t.over {
		_ = t.pipe.SetWriteDeadline(time.Time{}) // for beats
	}
	if cap(record) <= outRoom {
		o.spare = record[:0]
	}
	o.writing, o.wrote = false, time.Now()
	if o.written != nil {
		close(o.written)
		o.written = nil
	}
	if err != nil {
		o.queue = nil
		return errors.Join(ErrLost, errStalled, err)
	}
	t.later()
	return nil
}

// onWritten is closed when the present record is written; the caller holds mu.
func (t *Trunk) onWritten() <-chan struct{} {
	if t.out.written == nil {
		t.out.written = make(chan struct{})
	}
	return t.out.written
}

// flush writes what waits at the end of a trunk, as far as the other end takes it.
func (t *Trunk) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.pipe.SetWriteDeadline(time.Now().Add(CloseWithin)) // of the record that is being written, too
	for t.out.writing {
		written := t.onWritten()
		t.mu.Unlock()
		<-written
		t.mu.Lock()
	}
	if len(t.out.queue) > 0 {
		_ = t.write() // nobody is left to be told
	}
}

// credit is the body of a frame that gives n bytes.
func credit(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
