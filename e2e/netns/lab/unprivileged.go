package lab

import (
	"os"
	"strconv"
	"strings"
)

// nobody is the user and group that a program without rights runs as.
const nobody = "65534"

// Unprivileged is the command line that runs a program without any capability,
// and as nobody where this world has more than one user.
func Unprivileged(args ...string) []string {
	as := []string{"setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"}
	if Users() > 1 {
		as = append(as, "--reuid="+nobody, "--regid="+nobody, "--clear-groups")
	}
	return append(append(as, "--"), args...)
}

// Give makes files and directories of the world nobody's.
func (w *World) Give(paths ...string) {
	w.Helper()
	if Users() == 1 {
		return
	}
	id, _ := strconv.Atoi(nobody)
	for _, path := range paths {
		if err := os.Chown(path, id, id); err != nil {
			w.Fatalf("lab: %v", err)
		}
	}
}

// Users is how many users this user namespace knows; 1 is its maker alone.
func Users() int {
	text, err := os.ReadFile("/proc/self/uid_map")
	if fields := strings.Fields(string(text)); err == nil && len(fields) >= 3 {
		if n, err := strconv.Atoi(fields[2]); err == nil {
			return n
		}
	}
	return 1
}
