package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// image is what one process image says of itself.
type image struct {
	PID   int
	Args  []string
	Files int // descriptors beside the usual three
}

const anewVariable = "MESHCRYPT_TEST_ANEW"

// TestMain is a process that begins anew where TestBeginsAnew starts it as one.
func TestMain(m *testing.M) {
	if os.Getenv(anewVariable) == "" {
		os.Exit(m.Run())
	}
	me := image{PID: os.Getpid(), Args: os.Args[1:], Files: -1} // less the directory that is read
	files, _ := os.ReadDir("/proc/self/fd")
	for _, file := range files {
		if at, err := os.Readlink("/proc/self/fd/" + file.Name()); err == nil && at != "anon_inode:[eventpoll]" && at != "anon_inode:[eventfd]" && file.Name() > "2" {
			me.Files++
		}
	}
	said, _ := json.Marshal(me)
	fmt.Println(string(said))
	if len(os.Args) > 2 {
		os.Exit(0)
	}
	if _, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		os.Exit(1)
	}
	a := &app{stderr: os.Stderr, dataDir: "/d", logLevel: "warn"}
	a.beginAnew(me.Args[0] == "aside")
}

// TestBeginsAnew: the same process for its supervisor, with nothing open of before,
// and it runs the node of the same directory.
func TestBeginsAnew(t *testing.T) {
	run := []string{"run", "--data-dir", "/d", "--log-level", "warn"}
	beginsAnew(t, "as a member", run)
	beginsAnew(t, "aside", append(run, "--aside"))
	if f := (&app{}).runCommand().Flags().Lookup("aside"); f == nil || !f.Hidden {
		t.Error("run does not know the flag, or shows it")
	}
}

// beginsAnew has a process begin anew so, and says what the next image is to be started with.
func beginsAnew(t *testing.T, how string, want []string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", how)
	cmd.Env = append(os.Environ(), anewVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var before, after image
	said := json.NewDecoder(out)
	if err := said.Decode(&before); err != nil {
		t.Fatal(err)
	}
	if err := said.Decode(&after); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if after.PID != before.PID || after.Files != before.Files || !slices.Equal(after.Args, want) {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
