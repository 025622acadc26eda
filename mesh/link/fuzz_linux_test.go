package link

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control messages come from the kernel; still no bytes may panic the reader
// (I11) or make it claim a segment outside the train.
func FuzzReadControl(f *testing.F) {
	var m sender
	m.segment(1400)
	f.Add((*[64]byte)(unsafe.Pointer(&m.control))[:], 5000)
	gro := make([]byte, 24)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&gro[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_GRO
	h.SetLen(20)
	gro[16], gro[17] = 0x78, 5
	f.Add(gro, 5000)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, control []byte, n int) {
		if n < 0 || n > MaxTrain || len(control) > controlSpace {
			return
		}
		s := &socket{in: newReceiver()}
		copy(s.in.places[0].control[:], control)
		train := Train{Len: n, Segment: n}
		s.readControl(s.in.places[0].control[:len(control)], &train)
		if train.Len != n || train.Segment > n || (n > 0 && train.Segment <= 0) {
			t.Errorf("%d bytes became %+v", n, train)
		}
	})
}
