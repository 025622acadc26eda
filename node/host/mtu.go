package host

import (
	"net"

	"github.com/vishvananda/netlink"
)

// SetMTU sets the MTU of an interface of ours.
func SetMTU(name string, mtu int) error {
	link, err := device(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, mtu); err != nil {
		return failed(err, "see `ip link show "+name+"`", "set the MTU of %q to %d", name, mtu)
	}
	return nil
}

// MTU is the present MTU of an interface; 0 when there is none.
func MTU(name string) int {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0
	}
	return i.MTU
}
