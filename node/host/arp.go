package host

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// announceFrame is a gratuitous ARP request (RFC 5944, 4.6): both protocol
// addresses are the one announced, so neighbours update their entry.
func announceFrame(mac net.HardwareAddr, a netip.Addr) []byte {
	const request = 1
	b := make([]byte, 28)
	binary.BigEndian.PutUint16(b[0:], unix.ARPHRD_ETHER)
	binary.BigEndian.PutUint16(b[2:], unix.ETH_P_IP)
	b[4], b[5] = 6, 4
	binary.BigEndian.PutUint16(b[6:], request)
	copy(b[8:14], mac)
	copy(b[14:18], a.AsSlice())
	copy(b[24:28], a.AsSlice())
	return b
}

// announceARP broadcasts one gratuitous ARP. A device without Ethernet
// addresses has no neighbours to tell.
func announceARP(dev string, a netip.Addr) error {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return err
	}
	mac := link.Attrs().HardwareAddr
	if len(mac) != 6 || link.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return nil
	}
	// Protocol 0: a socket that receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := unix.SockaddrLinklayer{
		Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)),
		Ifindex:  link.Attrs().Index,
		Halen:    6,
	}
	for i := range 6 {
		to.Addr[i] = 0xff
	}
	return unix.Sendto(fd, announceFrame(mac, a), 0, &to)
}
