package lab

import (
	"errors"
	"time"
)

// firewalldScript makes a host of its own of this mount namespace, which is the
// command's alone: programs from a tree, a message bus, an empty /run.
const firewalldScript = `
	for d in usr etc; do mount -t overlay overlay -o lowerdir=$TREE/$d:/$d /$d; done
	mount -t tmpfs tmpfs /run
	mkdir -p /run/dbus /run/firewalld
	cat > /run/bus.conf <<-END
		<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
		 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
		<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
		<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
		<allow user="*"/><allow own="*"/></policy></busconfig>
	END
	/usr/bin/dbus-daemon --config-file=/run/bus.conf --fork --nopidfile
	exec /usr/sbin/firewalld --nofork --nopid`

// firewalldStarts is how long it may take to start: Python and its libraries.
const firewalldStarts = 30 * time.Second

// Firewalld starts the real firewalld on a host, of a tree in which its packages are
// unpacked, and waits for its rules.
func (s *Space) Firewalld(tree string) *Process {
	s.world.Helper()
	p := s.Start(s.Name+"-firewalld", []string{"TREE=" + tree}, "sh", "-ec", firewalldScript)
	s.world.Until("firewalld has its rules in place", firewalldStarts, func() error {
		if s.Try(nil, "nft", "list", "chain", "inet", "firewalld", "filter_INPUT").Code == 0 {
			return nil
		}
		return errors.New(p.Tail(5))
	})
	return p
}
