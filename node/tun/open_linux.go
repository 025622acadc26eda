package tun

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrConfig is returned by Open for arguments no device can have.
var ErrConfig = errors.New("tun: invalid configuration")

// clone is the device that makes TUN interfaces.
const clone = "/dev/net/tun"

// offloads are tried in order. Kernels before 6.2 have no UDP segmentation.
var offloads = [...]int{
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_USO4 | unix.TUN_F_USO6,
	unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6,
	unix.TUN_F_CSUM,
	0,
}

// Open makes the TUN interface name with the given number of queues and MTU
// and sets it up. A name with %d lets the kernel number it. The interface
// lives as long as the Device.
func Open(name string, queues, mtu int) (Device, error) {
	if err := check(name, queues, mtu); err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("tun: make an eventfd: %w", err)
	}
	d := &device{wake: wake}
	for range queues {
		fd, actual, err := openQueue(name)
		if err != nil {
			_ = d.Close()
			return nil, err
		}
		d.name, name = actual, actual
		d.queues = append(d.queues, &queue{fd: fd, wake: wake})
	}
	if err := d.configure(mtu); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

func check(name string, queues, mtu int) error {
	switch {
	case len(name) == 0 || len(name) > MaxNameLen:
		return fmt.Errorf("%w: interface name %q must have 1 to %d bytes", ErrConfig, name, MaxNameLen)
	case queues < 1 || queues > MaxQueues:
		return fmt.Errorf("%w: %d queues, 1 to %d are possible", ErrConfig, queues, MaxQueues)
	case mtu < MinMTU || mtu > MaxPacket:
		return fmt.Errorf("%w: MTU %d, %d to %d are possible", ErrConfig, mtu, MinMTU, MaxPacket)
	}
	return nil
}

// openQueue makes one more descriptor of the interface name.
func openQueue(name string) (fd int, actual string, err error) {
	fd, err = unix.Open(clone, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, "", explainClone(err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderLen)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", explainAttach(name, err)
	}
	return fd, request.Name(), nil
}

func explainClone(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("tun: the kernel has no TUN driver loaded (%s); run `modprobe tun`, "+
			"in a container pass the device in: %w", clone, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("tun: opening %s is not permitted; run as root, "+
			"or give the binary CAP_NET_ADMIN: %w", clone, err)
	}
	return fmt.Errorf("tun: open %s: %w", clone, err)
}

func explainAttach(name string, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("tun: making interface %q is not permitted; run as root, "+
			"or give the binary CAP_NET_ADMIN: %w", name, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("tun: interface %q is in use by another process; "+
			"stop it or choose another name, see `ip link`: %w", name, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("tun: interface %q exists and is no multi-queue TUN; "+
			"remove it by `ip link delete %s` or choose another name: %w", name, name, err)
	}
	return fmt.Errorf("tun: make interface %q: %w", name, err)
}

// configure sets offloads, MTU and the up flag.
func (d *device) configure(mtu int) error {
	var err error
	for _, flags := range offloads {
		if err = unix.IoctlSetInt(d.queues[0].fd, unix.TUNSETOFFLOAD, flags); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("tun: set the offloads of %q: %w", d.name, err)
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tun: open a control socket: %w", err)
	}
	defer unix.Close(control)
	if err := d.setMTU(control, mtu); err != nil {
		return fmt.Errorf("tun: set the MTU of %q to %d: %w", d.name, mtu, err)
	}
	if err := d.setUp(control); err != nil {
		return fmt.Errorf("tun: set %q up: %w", d.name, err)
	}
	return nil
}

func (d *device) setMTU(control, mtu int) error {
	request, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	request.SetUint32(uint32(mtu))
	return unix.IoctlIfreq(control, unix.SIOCSIFMTU, request)
}

func (d *device) setUp(control int) error {
	request, err := unix.NewIfreq(d.name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(control, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, request)
}
