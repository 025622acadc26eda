package node

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/gateway"
)

func TestPortsBetween(t *testing.T) {
	for _, c := range []struct {
		given, reserved string
		want            int
	}{
		{"32768\t60999", "", 28232},
		{"32768 60999", "40000,50000-50009,6484", 28221},
		{"1024 65535", "60000-65535,1-1033", 64512 - 5536 - 10},
		{"5 5", "5", 0},
	} {
		if n, err := portsBetween(c.given, c.reserved); err != nil || n != c.want {
			t.Errorf("%q without %q: %d, %v, want %d", c.given, c.reserved, n, err, c.want)
		}
	}
	for _, c := range [][2]string{{"", ""}, {"5", ""}, {"9 5", ""}, {"1 70000", ""}, {"1 9", "x"}, {"1 9", "5-3"}} {
		if n, err := portsBetween(c[0], c[1]); !errors.Is(err, errPorts) {
			t.Errorf("%q without %q: %d, %v, want an error", c[0], c[1], n, err)
		}
	}
	if n := portsGiven(); n <= 0 {
		t.Errorf("this host gives out %d ports", n)
	}
}

// TestRoomForPorts: what the host leaves is what the gateway takes, and where that is less
// than it could use, somebody is told what to change (I10).
func TestRoomForPorts(t *testing.T) {
	for _, c := range []struct {
		given, descriptors, want int
		remedy                   string
	}{
		{28232, Descriptors, gateway.MaxPorts, ""},
		{4000, Descriptors, 3000, "ip_local_port_range"},
		{28232, 1024, 512, "LimitNOFILE"},
		{4000, 1024, 512, "LimitNOFILE"},
	} {
		r := roomFor(c.given, c.descriptors)
		if r.ports != c.want || !strings.Contains(r.remedy, c.remedy) || (r.remedy == "") != (c.remedy == "") {
			t.Errorf("%d ports, %d descriptors: %+v, want %d and %q", c.given, c.descriptors, r, c.want, c.remedy)
		}
	}
	r := roomFor(4000, Descriptors)
	var log bytes.Buffer
	if r.say(slog.New(slog.NewTextHandler(&log, nil))); !strings.Contains(log.String(), "level=INFO") || !strings.Contains(log.String(), "ip_local_port_range") {
		t.Errorf("at each start: %s", log.String())
	}
	for ports, tight := range map[int]bool{0: false, 2699: false, 2700: true, 3000: true} {
		if said, is := r.tight(gateway.Stats{Ports: ports, MaxPorts: 3000}); is != tight || is && !strings.Contains(said, "ip_local_port_range") {
			t.Errorf("%d of 3,000 ports: %q", ports, said)
		}
	}
	if said, is := r.tight(gateway.Stats{MaxPorts: 3000, PortFault: errors.New("too many open files")}); !is || !strings.Contains(said, "too many open files") {
		t.Errorf("a port that does not open: %q", said)
	}
}
