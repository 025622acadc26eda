package host

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A virtual machine that was cloned, or restored from a snapshot, runs on as if
// nothing had happened: beside its copy, or once more from where it stood. Where the
// hypervisor tells (virtual machine generation id), Linux 6.10 and newer pass it on
// as an event of the device:
//
//	change@/devices/... 0 ACTION=change 0 ... NEW_VMGENID=1 0
const generationChanged = "NEW_VMGENID=1"

// NewGeneration reports whether a kernel's device event says that this machine is
// another than it was. Anything else, malformed ones too, is not such an event.
func NewGeneration(event []byte) bool {
	if len(event) > MaxDeviceEvent || !bytes.HasPrefix(event, []byte("change@")) {
		return false
	}
	for field := range bytes.SplitSeq(event, []byte{0}) {
		if string(field) == generationChanged {
			return true
		}
	}
	return false
}

// WatchGeneration calls heard each time that the kernel says that this machine was
// cloned or restored, until ctx ends. Who asks too late is not told of what was.
func WatchGeneration(ctx context.Context, heard func()) error {
	file, err := openDeviceEvents()
	if err != nil {
		return fmt.Errorf("host: watch for clones: %w", err)
	}
	defer file.Close()
	stop := context.AfterFunc(ctx, func() { file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, MaxDeviceEvent)
	for {
		n, err := receiveDeviceEvent(file, b)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("host: watch for clones: %w", err)
		case NewGeneration(b[:n]):
			heard()
		}
	}
}

// openDeviceEvents opens the kernel's own broadcast of device events; that of udev
// is another group.
func openDeviceEvents() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, err
	}
	// A burst of devices must not push the one event out; without the right to more
	// room there is the usual one.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, deviceEventsRoom)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "uevents"), nil
}

// receiveDeviceEvent waits for a message of the kernel's; one of any other sender is
// empty, for whoever may send them could stop this host otherwise too, but not this
// way. What was lost in a full buffer is empty too.
func receiveDeviceEvent(file *os.File, b []byte) (n int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var from unix.Sockaddr
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		n, from, failed = unix.Recvfrom(int(fd), b, 0)
		return failed != unix.EAGAIN && failed != unix.EINTR
	})
	if err == nil && failed != unix.ENOBUFS {
		err = failed
	}
	if kernel, ok := from.(*unix.SockaddrNetlink); err != nil || failed != nil || !ok || kernel.Pid != 0 {
		n = 0
	}
	return n, err
}
