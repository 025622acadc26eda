#!/bin/sh
# hanwen/go-fuse v2.12.1: with DirectMount every program that the server starts inherits
# the descriptor of /dev/fuse.
#
# It opens /dev/fuse with syscall.Open and without O_CLOEXEC. Seen on Linux 6: a child
# (sleep) has one descriptor of /dev/fuse; of one that the caller opened with O_CLOEXEC,
# mounted by itself and served as /dev/fd/N, it has none. The kernel ends a connection when
# its last descriptor is closed. So a server that starts programs should not leave the
# opening to DirectMount, or its mount is not over when it is.
#
# Needs Go, root (or a new user namespace) and /dev/fuse. Installs the pinned module into
# a folder that it removes; mounts in a mount namespace of its own. Exit 0: still so; exit
# 1: otherwise now.
set -eu
if [ "${IN_NAMESPACE:-}" = "" ]; then
	exec env IN_NAMESPACE=yes unshare --user --map-root-user --mount sh "$0"
fi
work=$(mktemp -d)
trap 'umount -l "$work"/mnt.* 2>/dev/null || true; chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// inherited counts the descriptors of /dev/fuse that a child of this server has.
func inherited(mountpoint string, direct bool) (n int, err error) {
	server, err := fs.Mount(mountpoint, &fs.Inode{}, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: direct}})
	if err != nil {
		return 0, err
	}
	defer server.Unmount()
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		return 0, err
	}
	defer child.Wait()
	defer child.Process.Kill()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", child.Process.Pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/dev/fuse") {
			n++
		}
	}
	return n, err
}

// opened mounts by itself, with a descriptor that programs do not inherit.
func opened(mountpoint string) (string, error) {
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	return fmt.Sprintf("/dev/fd/%d", fd), syscall.Mount("finding", mountpoint, "fuse.finding", 0, options)
}

func say(what string, n int, err error) {
	if err != nil {
		fmt.Println(what+":", err)
		os.Exit(1)
	}
	fmt.Println(what+":", n)
}

func main() {
	n, err := inherited(os.Args[1], true)
	say("descriptors that a child has after DirectMount", n, err)
	place, err := opened(os.Args[2])
	if err == nil {
		n, err = inherited(place, false)
	}
	say("opened with O_CLOEXEC", n, err)
}
GO
mkdir mnt.1 mnt.2
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
go mod init finding >/dev/null 2>&1
go get github.com/hanwen/go-fuse/v2@v2.12.1 >/dev/null 2>&1
go build -o finding .
./finding "$work/mnt.1" "$work/mnt.2" | tee seen
[ "$(cat seen)" = "descriptors that a child has after DirectMount: 1
opened with O_CLOEXEC: 0" ] || {
	echo "otherwise than seen"
	exit 1
}
