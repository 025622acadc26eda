package host

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
)

// TestNewGeneration: the one event of the kernel's, whole, and no other.
func TestNewGeneration(t *testing.T) {
	if !NewGeneration([]byte(linktest.Cloned)) {
		t.Error("the kernel's event is not known")
	}
	for _, event := range []string{
		"", "\x00", "change@", "NEW_VMGENID=1\x00", "change@NEW_VMGENID=1",
		"add@/devices/x\x00ACTION=add\x00NEW_VMGENID=1\x00",
		"change@/devices/x\x00ACTION=change\x00NEW_VMGENID=0\x00", "change@/devices/x\x00NEW_VMGENID=10\x00",
		"change@/devices/x\x00XNEW_VMGENID=1\x00", "libudev\x00\xfe\xed\xca\xfe\x00NEW_VMGENID=1\x00",
		"change@/devices/x\x00NEW_VMGENID=1\x00" + string(bytes.Repeat([]byte{'x'}, MaxDeviceEvent)),
	} {
		if NewGeneration([]byte(event)) {
			t.Errorf("%.60q is taken for it", event)
		}
	}
}

// FuzzNewGeneration: whatever it says is in the message.
func FuzzNewGeneration(f *testing.F) {
	f.Add([]byte(linktest.Cloned))
	f.Add([]byte("change@\x00NEW_VMGENID=1"))
	f.Fuzz(func(t *testing.T, event []byte) {
		if NewGeneration(event) && !bytes.Contains(event, []byte("\x00NEW_VMGENID=1")) {
			t.Errorf("%q", event)
		}
	})
}

// TestWatchGeneration: the kernel's broadcast is heard, and only the kernel is
// believed.
func TestWatchGeneration(t *testing.T) {
	if !isolate(t) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	heard, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() { ended <- WatchGeneration(ctx, func() { heard <- struct{}{} }) }()
	hang := time.After(20 * time.Second)
	for len(heard) == 0 { // the watch may only just begin
		linktest.DeviceEvent(t, linktest.Cloned)
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-hang:
			t.Fatal("the kernel's event is not heard")
		case <-time.After(10 * time.Millisecond):
		}
	}
	for drained := false; !drained; {
		select {
		case <-heard:
		case <-time.After(200 * time.Millisecond):
			drained = true
		}
	}
	linktest.FalseDeviceEvent(t, linktest.Cloned) // by a process of this host
	linktest.DeviceEvent(t, "change@/devices/x\x00ACTION=change\x00")
	select {
	case <-heard:
		t.Error("another event, or another sender, is believed")
	case <-time.After(200 * time.Millisecond):
	}
	linktest.DeviceEvent(t, linktest.Cloned)
	select {
	case <-heard:
	case <-hang:
		t.Error("deaf after an event of no interest")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
