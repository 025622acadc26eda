package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctlRoot is where the network sysctls of the process's own namespace are.
const sysctlRoot = "/proc/sys/net"

// setting is one sysctl, its name a path below sysctlRoot as in
// ipv4/conf/eth0/rp_filter (interface names may hold dots).
type setting struct {
	name, value string
	// pinned settings are written down even if they stand already, because
	// another setting of the same list changes them on its way back.
	pinned bool
	// passing settings belong to a device that dies with the process, so that
	// nothing is to be restored.
	passing bool
}

func ipv4Conf(dev, key, value string) setting {
	return setting{name: "ipv4/conf/" + dev + "/" + key, value: value}
}

func ipv6Conf(dev, key, value string) setting {
	return setting{name: "ipv6/conf/" + dev + "/" + key, value: value}
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysctlRoot, name))
	return strings.TrimSpace(string(b)), err
}

func (s setting) write() error {
	err := os.WriteFile(filepath.Join(sysctlRoot, s.name), []byte(s.value), 0)
	if err != nil {
		return failed(err, "see `sysctl -w net."+strings.ReplaceAll(s.name, "/", ".")+"="+s.value+"`",
			"set net/%s to %s", s.name, s.value)
	}
	return nil
}

// ofTUN are the same settings of a device that dies with the process.
func ofTUN(settings []setting) []setting {
	for i := range settings {
		settings[i].passing = true
	}
	return settings
}

// ipv4Router lets one interface take part in forwarding. The filter mode in
// force is the larger of conf.all and the interface's own, so 2 (loose) on the
// interface also overrides a strict 1 of conf.all. Redirects are off only
// where both conf.all and the interface's own are.
func ipv4Router(dev string) []setting {
	return []setting{
		ipv4Conf(dev, "rp_filter", "2"),
		ipv4Conf(dev, "send_redirects", "0"),
		ipv4Conf(dev, "forwarding", "1"),
	}
}

// ipv6Router lets devices forward IPv6. Kernels with force_forwarding (6.17)
// do it per interface. Older ones have one switch for the whole host, which
// also makes it stop listening to routers and lose its default route, unless
// accept_ra is 2 before.
func ipv6Router(devs []string, hasForce bool, interfaces map[string]ipv6State) []setting {
	var settings []setting
	if hasForce {
		for _, dev := range devs {
			settings = append(settings, ipv6Conf(dev, "force_forwarding", "1"))
		}
		return settings
	}
	for _, dev := range sortedKeys(interfaces) {
		if interfaces[dev].acceptRA == "1" {
			settings = append(settings, ipv6Conf(dev, "accept_ra", "2"))
		}
	}
	// Writing conf.all changes every interface: naming each one first lets
	// the journal put each one back afterwards.
	for _, dev := range sortedKeys(interfaces) {
		one := ipv6Conf(dev, "forwarding", "1")
		one.pinned = true
		settings = append(settings, one)
	}
	return append(settings, ipv6Conf("all", "forwarding", "1"))
}

// ipv6State is what ipv6Router must know of an interface.
type ipv6State struct{ acceptRA string }

// ipv6Interfaces reads the state of all interfaces but the collective ones.
func ipv6Interfaces() (map[string]ipv6State, error) {
	dirs, err := os.ReadDir(filepath.Join(sysctlRoot, "ipv6/conf"))
	if err != nil {
		return nil, failed(err, "the pool has IPv6: enable it in the kernel, or take it out of the pool",
			"read the IPv6 interfaces")
	}
	states := map[string]ipv6State{}
	for _, dir := range dirs {
		name := dir.Name()
		if name == "all" || name == "default" || name == "lo" {
			continue
		}
		value, err := readSysctl("ipv6/conf/" + name + "/accept_ra")
		if errors.Is(err, fs.ErrNotExist) {
			continue // the interface has just gone
		}
		if err != nil {
			return nil, failed(err, "see `sysctl -a`", "read accept_ra of %q", name)
		}
		states[name] = ipv6State{acceptRA: value}
	}
	return states, nil
}

func hasForceForwarding() bool {
	_, err := os.Stat(filepath.Join(sysctlRoot, "ipv6/conf/all/force_forwarding"))
	return err == nil
}
