//go:build e2e

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// pingSocket is the kernel's unprivileged ICMP socket (IPPROTO_ICMP, SOCK_DGRAM)
// to an IPv4 address.
func pingSocket(into *net.Conn, address string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "ping")
	defer file.Close()
	to := unix.SockaddrInet4{Addr: netip.MustParseAddr(address).As4()}
	if err := unix.Connect(fd, &to); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	*into, err = net.FileConn(file)
	return err
}
