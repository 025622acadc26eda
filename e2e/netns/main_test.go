//go:build e2e

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// Settings of a run, all optional.
const (
	envBinary = "MESHCRYPT_E2E_BINARY" // test this one instead of building
	envBytes  = "MESHCRYPT_E2E_MB"     // of each transfer, in MB
	envTries  = "MESHCRYPT_E2E_TRIES"  // of each kill
	envKeep   = "MESHCRYPT_E2E_KEEP"   // directory for logs that outlive the run

	defaultMB    = 300
	defaultTries = 1 // in `make test`
	manyTries    = 3 // in `make e2e`
)

// envDir names the directory that the program is built in, for this run alone.
const envDir = "MESHCRYPT_E2E_DIR"

func TestMain(m *testing.M) { os.Exit(lab.Enter(func() int { return run(m) })) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "meshcrypt-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = os.Setenv(envDir, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	fmt.Print(&costs)
	return code
}

// building is held while the program is built: tests run side by side.
var building sync.Mutex

// program is built once, with the tag that lets the nonce oracle watch every key.
func program(t *testing.T) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	if given := os.Getenv(envBinary); given != "" {
		return given
	}
	path := filepath.Join(os.Getenv(envDir), "meshcrypt")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "meshcrypt_insecure", "-o", path, "../../cmd/meshcrypt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

func setting(t *testing.T, name string, without int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is not a number above 0", name, text)
	}
	return n
}

// tries is how often each kill is tried.
func tries(t *testing.T) int {
	if os.Getenv(envMatrix) == "all" {
		return setting(t, envTries, manyTries)
	}
	return setting(t, envTries, defaultTries)
}
