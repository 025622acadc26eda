package linktest

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// isolated names the variable that tells a test it runs in its own namespaces.
const isolated = "MESHCRYPT_TEST_ISOLATED"

// Isolate runs the calling test again as a process with user and network
// namespaces of its own, where it is root and may change every device and
// route. There it returns true; in the outer process it returns false after
// the inner one has passed, and fails the test otherwise:
//
//	if !linktest.Isolate(t) {
//		return
//	}
//
// The loopback device of the new namespace is down at first.
func Isolate(t testing.TB) bool {
	t.Helper()
	if os.Getenv(isolated) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test's own binary: %v", err)
	}
	inner := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v=true")
	inner.Env = append(os.Environ(), isolated+"="+t.Name())
	inner.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	output, err := inner.CombinedOutput()
	if err != nil {
		t.Fatalf("in its own namespaces: %v\n%s", err, output)
	}
	return false
}
