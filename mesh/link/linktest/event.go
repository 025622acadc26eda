package linktest

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// Cloned is the kernel's device event of a virtual machine that was cloned or restored.
const Cloned = "change@/devices/LNXSYSTM:00/LNXSYBUS:00/QEMUVGID:00\x00ACTION=change\x00DEVPATH=/devices/x\x00" +
	"SUBSYSTEM=platform\x00NEW_VMGENID=1\x00SEQNUM=4711\x00"

// DeviceEvent has the kernel send a device event to all listeners of this network
// namespace: who owns one, as after Isolate, may ask it to.
func DeviceEvent(t testing.TB, event string) {
	t.Helper()
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(event)))
	m = binary.NativeEndian.AppendUint16(m, unix.NLMSG_MIN_TYPE)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST)
	m = append(m, make([]byte, 8)...) // number and port
	sendDeviceEvent(t, append(m, event...), &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// FalseDeviceEvent sends one to the same listeners, as any process with rights may.
func FalseDeviceEvent(t testing.TB, event string) {
	t.Helper()
	sendDeviceEvent(t, []byte(event), &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
}

func sendDeviceEvent(t testing.TB, m []byte, to unix.Sockaddr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, m, 0, to); err != nil {
		t.Fatal(err)
	}
}
