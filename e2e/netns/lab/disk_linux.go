package lab

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Disk is a file system whose writing fails or drags as it is told. Its files lie in
// another directory; this program serves them to the kernel, which asks for each write.
// The program itself must not touch them through it: it would wait for itself.
type Disk struct {
	errno atomic.Int64 // of whatever writes; zero: none
	delay atomic.Int64 // of each fsync, ns
}

// Fail has whatever writes fail with this error: EIO of a broken disk, ENOSPC of one
// without a block even for what is there, EROFS of one that the kernel gave up.
func (d *Disk) Fail(errno syscall.Errno) { d.errno.Store(int64(errno)) }

// Drag has each fsync take so long.
func (d *Disk) Drag(fsync time.Duration) { d.delay.Store(int64(fsync)) }

// Mend ends both.
func (d *Disk) Mend() {
	d.Fail(0)
	d.Drag(0)
}

func (d *Disk) fault() syscall.Errno { return syscall.Errno(d.errno.Load()) }

// Disk mounts one with a directory's files. Both directories exist; the mount ends with
// the world, after its processes.
func (w *World) Disk(at, files string) *Disk {
	w.Helper()
	d := &Disk{}
	server, err := d.mount(at, files)
	if err != nil {
		w.Fatalf("lab: a disk at %s: %v", at, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mounts = append(w.mounts, func() {
		d.Mend() // nobody waits any more
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			w.Logf("lab: unmount %s: %v", at, err)
		}
		server.Wait()
	})
	return d
}

// mount opens the device itself: a descriptor of it that programs inherit would keep the
// file system, and whoever waits for it, beyond the end of this program.
func (d *Disk) mount(at, files string) (*fuse.Server, error) {
	var root unix.Stat_t
	if err := unix.Stat(files, &root); err != nil {
		return nil, err
	}
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/fuse: %w (it takes a kernel with FUSE, and root)", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other", device, root.Mode&unix.S_IFMT)
	if err := unix.Mount("lab", at, "fuse.lab", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, errors.Join(err, unix.Close(device))
	}
	data := &fs.LoopbackRoot{Path: files, Dev: root.Dev}
	data.RootNode = &diskNode{fs.LoopbackNode{RootData: data}, d}
	// What is mounted already is served by its descriptor.
	return fs.Mount(fmt.Sprintf("/dev/fd/%d", device), data.RootNode, &fs.Options{})
}

// diskNode is a directory or file of a disk.
type diskNode struct {
	fs.LoopbackNode
	disk *Disk
}

// WrapChild has the same faults in what lies below.
func (n *diskNode) WrapChild(context.Context, fs.InodeEmbedder) fs.InodeEmbedder {
	return &diskNode{fs.LoopbackNode{RootData: n.RootData}, n.disk}
}

// Write is of a page or more: the kernel holds nothing back.
func (n *diskNode) Write(ctx context.Context, file fs.FileHandle, data []byte, at int64) (uint32, syscall.Errno) {
	if errno := n.disk.fault(); errno != 0 {
		return 0, errno
	}
	return file.(fs.FileWriter).Write(ctx, data, at)
}

// Fsync is of a file or a directory. The files lie in this machine's own file system,
// which need not survive it: nothing is passed on.
func (n *diskNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	time.Sleep(time.Duration(n.disk.delay.Load()))
	return n.disk.fault()
}

// Allocate takes blocks.
func (n *diskNode) Allocate(ctx context.Context, file fs.FileHandle, at, size uint64, mode uint32) syscall.Errno {
	if errno := n.disk.fault(); errno != 0 {
		return errno
	}
	return file.(fs.FileAllocater).Allocate(ctx, at, size, mode)
}

// Create makes a file.
func (n *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.disk.fault(); errno != 0 {
		return nil, nil, 0, errno
	}
	return n.LoopbackNode.Create(ctx, name, flags, mode, out)
}

// Rename replaces a file.
func (n *diskNode) Rename(ctx context.Context, name string, to fs.InodeEmbedder, as string, flags uint32) syscall.Errno {
	if errno := n.disk.fault(); errno != 0 {
		return errno
	}
	return n.LoopbackNode.Rename(ctx, name, to, as, flags)
}

// Mkdir makes a directory, as each snapshot has one.
func (n *diskNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.disk.fault(); errno != 0 {
		return nil, errno
	}
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}
