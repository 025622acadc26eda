package conntrack

import (
	"os"
	"strconv"
	"strings"
)

// Table is how many flows this host's kernel follows, and how many it may; zeros where it
// follows none.
func Table() (flows, most int) {
	return setting("nf_conntrack_count"), setting("nf_conntrack_max")
}

func setting(name string) int {
	text, err := os.ReadFile("/proc/sys/net/netfilter/" + name)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}
