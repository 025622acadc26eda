package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/descriptors"
	"github.com/meshcrypt/meshcrypt/node/gateway"
)

// room is how many ports towards nodes this host leaves to the gateway, and what to do
// if they are too few: empty where they are as many as a gateway can use.
type room struct {
	ports  int
	remedy string
}

// roomFor is the share of the gateway: the host's other programs want ports as well,
// and the rest of this process descriptors.
func roomFor(given, files int) room {
	r := room{ports: gateway.MaxPorts}
	if most := given / 4 * 3; most < r.ports {
		r = room{most, fmt.Sprintf("the kernel has %d ports to give out: widen net.ipv4.ip_local_port_range", given)}
	}
	if most := files / 2; most < r.ports {
		r = room{most, fmt.Sprintf("this process may open %d descriptors: raise its limit to %d (LimitNOFILE of its unit, or ulimit -Hn)", files, Descriptors)}
	}
	return r
}

// hostRoom is what there is on this host.
func hostRoom() room { return roomFor(portsGiven(), descriptors.Limit()) }

// say names a limit that the host sets, once. Most nodes never come near it, and `status` of
// one that does says what to do.
func (r room) say(log *slog.Logger) {
	if r.remedy != "" {
		log.Info("the gateway has room for fewer clients at each node than it could", "clients", r.ports, "most", gateway.MaxPorts, "because", r.remedy)
	}
}

// tight is the problem that clients are refused for want of ports, or soon will be.
func (r room) tight(s gateway.Stats) (string, bool) {
	switch {
	case s.PortFault != nil:
		return fmt.Sprintf("the gateway cannot open a port for another client: %v%s", s.PortFault, r.because()), true
	case s.Ports >= s.MaxPorts/10*9:
		return fmt.Sprintf("the gateway has %d of at most %d ports towards nodes: further clients have to come in by another gateway%s",
			s.Ports, s.MaxPorts, r.because()), true
	}
	return "", false
}

func (r room) because() string {
	if r.remedy == "" {
		return ""
	}
	return "; " + r.remedy
}

// gatewayUse is what status says of the gateway.
func gatewayUse(s gateway.Stats) *control.GatewayUse {
	return &control.GatewayUse{Rows: s.Rows, Ports: s.Ports, MaxPorts: s.MaxPorts, Streams: s.Streams}
}

// portsGiven is how many ports the kernel gives out to whoever asks for any. Where it
// does not say, it is what Linux has where nobody changed it.
func portsGiven() int {
	read := func(name string) string {
		text, err := os.ReadFile("/proc/sys/net/ipv4/" + name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	n, err := portsBetween(read("ip_local_port_range"), read("ip_local_reserved_ports"))
	if err != nil {
		return 60999 - 32768 + 1
	}
	return n
}

var errPorts = errors.New("node: no range of ports")

// portsBetween is how many ports are in a range, without those that are reserved: ports
// and ranges of them between commas.
func portsBetween(given, reserved string) (int, error) {
	ends := strings.Fields(given)
	if len(ends) != 2 {
		return 0, fmt.Errorf("%w: %q", errPorts, given)
	}
	low, high, err := portRange(ends[0], ends[1])
	if err != nil {
		return 0, err
	}
	n := high - low + 1
	for _, part := range strings.FieldsFunc(reserved, func(r rune) bool { return r == ',' }) {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to, err := portRange(first, last)
		if err != nil {
			return 0, err
		}
		n -= max(0, min(to, high)-max(from, low)+1)
	}
	return n, nil
}

func portRange(first, last string) (low, high int, err error) {
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || to < from {
		return 0, 0, fmt.Errorf("%w: %q to %q", errPorts, first, last)
	}
	return int(from), int(to), nil
}
