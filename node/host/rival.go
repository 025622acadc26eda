package host

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Another host that answers for an address of this one is a rival: what it sends to
// all neighbours says so, an announcement or a question in its own name (RFC 5227,
// 2.4; RFC 4861, 7.2.5). Whoever hears of it decides; anybody can send such a thing.

// arpListener hears the ARP of one interface.
type arpListener struct {
	file *os.File
	mac  net.HardwareAddr
}

// listenARP gives nil for a device without Ethernet addresses: nobody asks there.
func listenARP(dev string) (*arpListener, error) {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return nil, err
	}
	mac := link.Attrs().HardwareAddr
	if len(mac) != 6 || link.Attrs().RawFlags&unix.IFF_NOARP != 0 {
		return nil, nil
	}
	protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(protocol))
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: link.Attrs().Index}); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &arpListener{file: os.NewFile(uintptr(fd), "arp"), mac: mac}, nil
}

// serve tells of every sender that is not this host, until close.
func (l *arpListener) serve(heard func(netip.Addr)) {
	b := make([]byte, maxARP)
	for faults := 0; faults < maxFaults; faults++ {
		size, err := l.file.Read(b)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil:
			continue // the interface is down; it may come back
		}
		faults = -1
		if sender, mac, ok := parseARP(b[:size]); ok && !bytes.Equal(mac, l.mac) {
			heard(sender)
		}
	}
}

func (l *arpListener) close() { _ = l.file.Close() }

// parseARP gives whose address a host says it has. One that asks whether an address is
// free says nothing of itself yet.
func parseARP(b []byte) (sender netip.Addr, mac net.HardwareAddr, ok bool) {
	if len(b) < 28 || binary.BigEndian.Uint16(b) != unix.ARPHRD_ETHER || binary.BigEndian.Uint16(b[2:]) != unix.ETH_P_IP ||
		b[4] != 6 || b[5] != 4 {
		return sender, nil, false
	}
	sender, mac = netip.AddrFrom4([4]byte(b[14:18])), net.HardwareAddr(b[8:14])
	return sender, mac, !sender.IsUnspecified()
}

// parseAdvertisement gives whose address a neighbor advertisement says its sender has.
func parseAdvertisement(b []byte) (target netip.Addr, mac net.HardwareAddr, ok bool) {
	if len(b) < 24 || b[0] != advertisement || b[1] != 0 {
		return target, nil, false
	}
	target = netip.AddrFrom16([16]byte(b[8:24]))
	for options := b[24:]; len(options) > 0; {
		if len(options) < 2 || options[1] == 0 || int(options[1])*8 > len(options) {
			return target, nil, false
		}
		if options[0] == optionTargetLink && options[1] == 1 {
			mac = net.HardwareAddr(options[2:8])
		}
		options = options[int(options[1])*8:]
	}
	return target, mac, mac != nil && !target.IsMulticast()
}

// watchRivals begins to hear ARP with the first address of IPv4 that is held. The
// stand's lock is held.
func (n *Node) watchRivals(a netip.Addr) {
	if n.rivals != nil || n.config.Rival == nil || !a.Is4() {
		return
	}
	l, err := listenARP(n.config.InsideInterface)
	if err != nil {
		n.config.Log.Warn("another host with an address of this one is not noticed", "interface", n.config.InsideInterface, "error", err)
	}
	if l == nil {
		return
	}
	n.rivals = l
	n.listening.Go(func() { l.serve(n.rival) })
}

// rival passes on that another host has an address, if this one holds it.
func (n *Node) rival(a netip.Addr) {
	n.stand.mu.Lock()
	held := n.held[a] != nil && !n.stand.closed
	n.stand.mu.Unlock()
	if held && n.config.Rival != nil {
		n.config.Rival(a)
	}
}
