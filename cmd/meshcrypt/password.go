package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// secretSource is where a secret comes from: a file, stdin, or a person.
type secretSource struct {
	a    *app
	ctx  context.Context // ends the wait for a person
	flag string          // name of the flag that names the file
	path string          // file, or - for stdin; empty asks the terminal
}

// read gives the secret without its line end.
func (s secretSource) read(prompt string) ([]byte, error) {
	var raw []byte
	var err error
	switch s.path {
	case "":
		return s.a.ask(s.ctx, prompt, s.flag)
	case "-":
		raw, err = readAll(s.a.stdin, "stdin", MaxSecret)
	default:
		raw, err = readFile(s.path, MaxSecret)
	}
	if err != nil {
		return nil, usage("name a readable file with "+s.flag, "%s: %v", s.flag, err)
	}
	raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	if len(raw) == 0 {
		return nil, usage("write it to the file first", "%s %s is empty", s.flag, s.path)
	}
	return raw, nil
}

// readNew is read for a password that is being chosen: a person types it twice.
func (s secretSource) readNew(prompt string) ([]byte, error) {
	first, err := s.read(prompt)
	if err != nil || s.path != "" {
		return first, err
	}
	second, err := s.read("again, " + prompt)
	if err == nil && !bytes.Equal(first, second) {
		err = usage("type it again", "the two are not the same")
	}
	return first, err
}

// ask reads one line from the terminal without showing it.
func (a *app) ask(ctx context.Context, prompt, flag string) ([]byte, error) {
	terminal, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(terminal) {
		return nil, usage(flag+" FILE, or - for stdin", "no terminal to ask for the %s", strings.TrimPrefix(prompt, "again, "))
	}
	fmt.Fprintf(a.stderr, "%s: ", prompt)
	defer fmt.Fprintln(a.stderr)
	restore, err := hideInput(int(terminal.Fd()))
	if err != nil {
		return nil, err
	}
	defer restore()
	type answer struct {
		line []byte
		err  error
	}
	typed := make(chan answer, 1)
	// The reader ends with the process if nobody types: a terminal has no deadline.
	go func() {
		line, err := readLine(terminal)
		typed <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-typed:
		return a.line, a.err
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// hideInput turns the echo off, until restore.
func hideInput(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	// A terminal that went away has nothing left to restore.
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}

// readLine reads byte by byte, so that what follows stays for the next reader.
func readLine(r io.Reader) ([]byte, error) {
	var line []byte
	for b := make([]byte, 1); len(line) <= MaxSecret; {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' || err == io.EOF && len(line) > 0 {
			return line, nil
		}
		if err != nil {
			return nil, fmt.Errorf("terminal: %w", err)
		}
		line = append(line, b[:n]...)
	}
	return nil, usage("", "more than %d characters", MaxSecret)
}
