package faulttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postrider/internal/e2e"
)

// A disk stands between a server and its disk. Each sync that the server asks
// the kernel for is announced here first (seccomp_unotify(2)) and goes on when
// it may, or fails: the program is the real one, and nothing of it is changed.
type disk struct {
	asked chan struct{} // gets a value when a sync is waiting, unless it has one

	mu    sync.Mutex
	may   chan struct{} // closed while syncs go through
	delay time.Duration // before each
	fails bool          // with an I/O error
	syncs int           // that went through
}

// startOnDisk starts a server whose syncs are watched.
func startOnDisk(t *testing.T, dir string) (*e2e.Server, *disk) {
	t.Helper()
	d := &disk{asked: make(chan struct{}, 1), may: make(chan struct{})}
	close(d.may)
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(sockets[1]), "watcher")
	done := make(chan error, 1)
	server := e2e.StartChanged(t, func(command *exec.Cmd) {
		command.Args = append([]string{os.Args[0], "-watched", "--", command.Path}, command.Args[1:]...)
		command.Path = os.Args[0]
		command.ExtraFiles = []*os.File{theirs}
		go func() { done <- d.watch(sockets[0]) }() // the server waits for it with its first sync
	}, dir, "--allow-cidrs", "127.0.0.0/8")
	t.Cleanup(func() {
		server.Kill()
		if err := errors.Join(theirs.Close(), <-done); err != nil {
			t.Errorf("watch the server's syncs: %v", err)
		}
	})
	return server, d
}

// hold lets no sync through until free.
func (d *disk) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.may = make(chan struct{})
}

func (d *disk) free() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.may)
}

// slow makes each sync take so much longer.
func (d *disk) slow(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// fail makes every sync fail from now on.
func (d *disk) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = true
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// answer decides what becomes of a sync.
func (d *disk) answer() syscall.Errno {
	select {
	case d.asked <- struct{}{}:
	default:
	}
	d.mu.Lock()
	may, delay := d.may, d.delay
	d.mu.Unlock()
	<-may
	<-time.After(delay)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails {
		return syscall.EIO
	}
	d.syncs++
	return 0
}

// A notice is the kernel's struct seccomp_notif, a verdict its
// seccomp_notif_resp.
type (
	notice struct {
		ID       uint64
		PID      uint32
		Flags    uint32
		Number   int32
		Arch     uint32
		Address  uint64
		Argument [6]uint64
	}
	verdict struct {
		ID    uint64
		Value int64
		Error int32
		Flags uint32
	}
)

const goOn = 1 // SECCOMP_USER_NOTIF_FLAG_CONTINUE

// watch takes the listener from the process that is about to become the server,
// and answers its notices until the server has ended.
func (d *disk) watch(socket int) error {
	defer unix.Close(socket) //nolint:errcheck // all that it was for has come
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("wait for the listener: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("got %d control messages, want the listener: %w", len(messages), err)
	}
	files, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return fmt.Errorf("read the listener: %w", err)
	}
	listener := files[0]
	defer unix.Close(listener) //nolint:errcheck // whoever waits at it goes on with an error
	for {
		ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for a sync: %w", err)
		}
		switch {
		case ready[0].Revents&unix.POLLIN != 0:
			var asked notice
			if err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&asked)); err != nil {
				continue // whoever asked is dead
			}
			go func() {
				answer := verdict{ID: asked.ID, Flags: goOn}
				if errno := d.answer(); errno != 0 {
					answer.Error, answer.Flags = -int32(errno), 0
				}
				ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&answer)) //nolint:errcheck // or is by now
			}()
		case ready[0].Revents != 0: // nobody is left who could ask
			return nil
		}
	}
}

func ioctl(file int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(file), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// runWatched becomes a program whose syncs wait for the watcher at file 3. It
// returns only what kept it from that.
func runWatched(args []string) error {
	runtime.LockOSThread() // the filter is the thread's, and the program's that the thread becomes
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result = unix.BPF_RET | unix.BPF_K
	)
	code := []unix.SockFilter{
		{Code: load, K: 0}, // the system call's number
		{Code: equal, Jt: 1, K: unix.SYS_FSYNC},
		{Code: equal, Jf: 1, K: unix.SYS_FDATASYNC},
		{Code: result, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: result, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("watch the program's syncs: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return fmt.Errorf("hand over the listener: %w", err)
	}
	return fmt.Errorf("run %s: %w", args[0], unix.Exec(args[0], args, os.Environ()))
}
