package descriptors

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exhaust takes every descriptor of this process below the highest that is set aside, and
// lets it open none above: as where the limit is lowered below what is open.
func exhaust(t *testing.T, r *Reserve) (relieve func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = uint64(slices.Max(r.aside)) + 1
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		fd, err := idle()
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	relieve = func() {
		for _, fd := range taken {
			_ = syscall.Close(fd)
		}
		taken = nil
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(relieve)
	return relieve
}

// TestAcceptWithoutDescriptors: as many connections come in as are set aside, each known for
// one of the last, and what a connection gave back is set aside again before anybody has it.
func TestAcceptWithoutDescriptors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const most = 3
	r := setAside(most, idle)
	for range most + 1 {
		waiting, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer waiting.Close()
	}
	relieve := exhaust(t, r)
	if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("the process is not exhausted: %v", err)
	}
	var in []net.Conn
	for range most {
		conn, last, err := r.Accept(l)
		if err != nil || !last {
			t.Fatalf("last %t, %v", last, err)
		}
		defer conn.Close()
		in = append(in, conn)
	}
	if _, _, err := r.Accept(l); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("more than what was set aside: %v", err)
	}
	in[0].Close()
	if r.whole() || len(r.aside) != 1 {
		t.Errorf("%d are set aside of what came free", len(r.aside))
	}
	relieve()
	conn, last, err := r.Accept(l)
	if err != nil || last || len(r.aside) != most {
		t.Fatalf("last %t with %d set aside, %v", last, len(r.aside), err)
	}
	conn.Close()
}

// TestOpenWithoutDescriptors: what needs more than one at a time gets them, within a bound.
func TestOpenWithoutDescriptors(t *testing.T) {
	var aside int
	r := setAside(MaxAside, func() (int, error) { aside++; return -1, nil })
	for need, want := range map[int]error{0: nil, maxLent: nil, maxLent + 1: syscall.EMFILE} {
		tries := 0
		err := r.Open(func() error {
			if tries++; len(r.aside) > MaxAside-need {
				return fmt.Errorf("open: %w", syscall.EMFILE)
			}
			return nil
		})
		if !errors.Is(err, want) || len(r.aside) != MaxAside {
			t.Errorf("%d of them: %v after %d tries, %d set aside", need, err, tries, len(r.aside))
		}
	}
	tries := 0
	if err := r.Open(func() error { tries++; return syscall.ENOENT }); !errors.Is(err, syscall.ENOENT) || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
	var none *Reserve
	if err := none.Open(func() error { return syscall.EMFILE }); !errors.Is(err, syscall.EMFILE) || none.Look(0) != nil {
		t.Errorf("without any: %v", err)
	}
}

// TestShort: for a second without any, whether the look finds it or who wanted one; and for
// some seconds after, for clients that come and go leave one free now and then.
func TestShort(t *testing.T) {
	var fails error
	r := setAside(2, func() (int, error) { return -1, fails })
	now := time.Hour
	look := func(d time.Duration) error { now += d; return r.Look(now) }
	if err := look(LookEvery); err != nil {
		t.Fatal(err)
	}
	fails = syscall.ENFILE
	if err := look(LookEvery); err != nil {
		t.Errorf("at once: %v", err)
	}
	if err := look(ShortAfter); !errors.Is(err, syscall.ENFILE) {
		t.Errorf("after a second: %v", err)
	}
	if fails = nil; look(ShortFor-1) == nil {
		t.Error("well before its time")
	}
	_ = r.Open(func() error { return syscall.EMFILE }) // a client in between
	if err := look(1); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("with one that was wanted: %v", err)
	}
	if look(ShortFor-1) == nil || look(1) != nil {
		t.Error("not well in time")
	}
	_ = r.Open(func() error { return syscall.EMFILE })
	for range 10 {
		if err := look(ShortAfter); err != nil {
			t.Errorf("one that was not to be had: %v", err)
		}
	}
}

// TestWords: each names what is full and what to type.
func TestWords(t *testing.T) {
	for err, want := range map[error][]string{
		syscall.EMFILE:  {"LimitNOFILE=1073741824", "prlimit --pid"},
		syscall.ENFILE:  {"fs.file-max", "sysctl -w"},
		syscall.ENOBUFS: {"net.ipv4.tcp_mem"},
		syscall.ENOMEM:  {"MemoryMax"},
	} {
		for _, word := range want {
			if says := Words(fmt.Errorf("accept: %w", err), 1<<30); !strings.Contains(says, word) {
				t.Errorf("%v: %q lacks %q", err, says, word)
			}
		}
	}
	if says := Words(syscall.EMFILE, 1); strings.Contains(says, "LimitNOFILE") || !strings.Contains(says, "/fd") {
		t.Errorf("with as many as it wants: %q", says)
	}
	if says := Words(nil, 1); says != "" {
		t.Error(says)
	}
}

func TestRaise(t *testing.T) {
	before := Limit()
	if Raise(uint64(before)); Limit() != before {
		t.Errorf("%d, %d before", Limit(), before)
	}
	if Raise(1 << 40); Limit() < before {
		t.Errorf("%d, %d before", Limit(), before)
	}
}
