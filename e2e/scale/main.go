// Command scale prints what the control plane costs against the size of the mesh, in
// CPU time, beside a TLS handshake of the same machine in the same minute. It owns the
// table and the picture. What is measured are the benchmarks named BenchmarkScale of
// the packages themselves; what whole processes cost is e2e/load's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// packages have rows of the table.
var packages = []string{"./consensus/registry", "./node/session", "./node/arbiter", "./node/agent", "./node"}

func main() {
	times := flag.Int("times", 200, "how often each row is measured")
	flag.Parse()
	if err := run(*times); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(times int) error {
	shake, err := handshake(times)
	if err != nil {
		return err
	}
	args := append([]string{"test", "-run", "^$", "-bench", "^BenchmarkScale$", "-benchtime", fmt.Sprint(times, "x"), "-timeout", "40m"}, packages...)
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	rows, err := parse(string(out))
	if err != nil {
		return err
	}
	fmt.Printf("a TLS 1.3 handshake, mutual, X25519MLKEM768, both sides: %s of CPU\n\n", micro(shake))
	fmt.Print(table(rows, shake), "\n", strings.Join(draw(rows), "\n"), "\n")
	return nil
}
