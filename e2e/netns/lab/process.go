package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// Process is a program that runs on a host until it ends or is ended.
type Process struct {
	Name string
	// Log is the file that its output goes to.
	Log string

	cmd   *exec.Cmd
	ended chan struct{} // closed when it is gone
}

// Start runs a program in the background. `ip netns exec` becomes the program,
// so the process id is the program's own.
func (s *Space) Start(name string, env []string, args ...string) *Process {
	w := s.world
	w.Helper()
	path := w.File(name + ".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.Fatalf("lab: %v", err)
	}
	defer log.Close()
	p := &Process{Name: name, Log: path, cmd: s.Command(env, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		w.Fatalf("lab: start %s: %v", name, err)
	}
	go func() {
		// The exit code is read from the state.
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.processes) >= maxProcesses {
		w.Fatalf("lab: more than %d processes", maxProcesses)
	}
	w.processes = append(w.processes, p)
	return p
}

// Kill ends the process at once (kill -9) and waits until it is gone.
func (p *Process) Kill() {
	if p.Running() {
		p.Signal(syscall.SIGKILL)
	}
	<-p.ended
}

// Terminate asks the process to end and waits so long; false if it did not.
func (p *Process) Terminate(within time.Duration) bool {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return true
	case <-time.After(within):
		return false
	}
}

// Signal sends a signal; SIGSTOP and SIGCONT pause the process and wake it.
func (p *Process) Signal(s syscall.Signal) {
	// A process that has ended needs none.
	_ = p.cmd.Process.Signal(s)
}

// Catches is nil once the process has a handler for a signal.
func (p *Process) Catches(s syscall.Signal) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return err
	}
	_, caught, _ := bytes.Cut(status, []byte("\nSigCgt:\t")) // proc(5)
	line, _, _ := bytes.Cut(caught, []byte("\n"))
	mask, err := strconv.ParseUint(string(line), 16, 64)
	if err == nil && mask&(1<<(s-1)) == 0 {
		err = fmt.Errorf("%s does not catch %v", p.Name, s)
	}
	return err
}

// Running says that the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Wait gives the exit code, or false when the process does not end in time.
func (p *Process) Wait(within time.Duration) (code int, ended bool) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), true
	case <-time.After(within):
		return 0, false
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Tail is the end of the log, for a message about a failure.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimRight(text, "\n"), []byte("\n"))
	all = all[max(0, len(all)-lines):]
	return fmt.Sprintf("--- %s (last %d lines)\n%s\n", p.Log, len(all), bytes.Join(all, []byte("\n")))
}
