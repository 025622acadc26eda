package main

import (
	"net/netip"
	"testing"
	"time"
)

// TestQuestion: the packet is one that a network stack takes.
func TestQuestion(t *testing.T) {
	q := question(netip.MustParseAddrPort("10.64.0.7:9"), echoAt)
	if checksum(q[:20]) != 0 {
		t.Error("the header's checksum is wrong")
	}
	if len(q) != 36 || q[0] != 0x45 || q[9] != 17 || [4]byte(q[16:20]) != echoAt.Addr().As4() {
		t.Errorf("% x", q)
	}
}

// TestStall: silence counts from the last answer on, while it lasts too, and not before the
// first.
func TestStall(t *testing.T) {
	f := newFlow()
	if stall, heard := f.stall(); stall != 0 || heard {
		t.Errorf("never heard: %v, %v", stall, heard)
	}
	if err := f.Write(nil); err != nil {
		t.Fatal(err)
	}
	f.heard = f.heard.Add(-time.Second)
	if stall, heard := f.stall(); stall < time.Second || !heard {
		t.Errorf("it lasts: %v, %v", stall, heard)
	}
	if err := f.Write(nil); err != nil {
		t.Fatal(err)
	}
	if stall, _ := f.stall(); stall < time.Second {
		t.Errorf("it ended since: %v", stall)
	}
	if stall, _ := f.stall(); stall >= time.Second {
		t.Errorf("told before: %v", stall)
	}
}

// TestCrewReport: what a crew writes is what is read, and half a line is nothing.
func TestCrewReport(t *testing.T) {
	said := report{attached: 7, dials: 12, talking: 2, late: 1, stall: 30 * time.Millisecond}
	c := &crew{}
	c.take(said.String())
	c.take("8 13")
	if got := c.said.Load(); got == nil || *got != said {
		t.Errorf("read %+v, written %+v", got, said)
	}
	c.take(report{stall: time.Millisecond}.String())
	f := &fleet{crews: []*crew{c}}
	if got, late := f.stall(); got != said.stall || late != said.late {
		t.Errorf("stall %v, %d late", got, late)
	}
	if got, late := f.stall(); got != 0 || late != 0 {
		t.Errorf("asked again: %v, %d late", got, late)
	}
}
