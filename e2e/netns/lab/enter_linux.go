package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// entered marks the environment of a program that Enter has moved.
const entered = "MESHCRYPT_LAB"

// Entered says that this program is in namespaces of its own.
func Entered() bool { return os.Getenv(entered) != "" }

// Enter runs the program again in namespaces of its own and gives its exit
// code; there, it calls run. The program is process 1 in them: when it ends,
// however it ends, the kernel ends every process and network made below it.
func Enter(run func() int) int {
	if Entered() {
		// Under nohup, programs that a test starts would inherit that SIGHUP is
		// ignored; one that is caught here is as usual in them.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "lab:", err)
			return 1
		}
		return run()
	}
	// The signal at the parent's death is the thread's: keep the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	code, err := again()
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab: no namespaces of its own: %v\n"+
			"  next: run it as root, or allow user namespaces: "+
			"sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0\n", err)
		return 1
	}
	return code
}

func again() (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), entered+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			// Process 1 that has ended needs no signal.
			_ = cmd.Process.Signal(s)
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// furnish gives the namespaces what `ip netns` and the programs expect, and takes
// from them what each user sets differently: who may read new files, and in which
// language programs speak.
func furnish() error {
	unix.Umask(0o022)
	if err := os.Setenv("LC_ALL", "C"); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("own /proc: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("own /run: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip (of iproute2): %w: %s", err, out)
	}
	return nil
}

// enter moves this thread into the host's network for good, and runs f.
func (s *Space) enter(f func() error) error {
	file, err := os.Open("/run/netns/" + s.namespace)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", s.Name, err)
	}
	return f()
}
