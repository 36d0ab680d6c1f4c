package bench

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// A deadPort is a port of this machine that refuses connections: a socket has
// it bound, so that nobody else gets it, and does not listen.
type deadPort struct {
	fd   int // -1 once it is closed or open
	addr string
}

func newDeadPort() (*deadPort, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", os.NewSyscallError("socket", err))
	}
	p := &deadPort{fd: fd}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		p.close()
		return nil, fmt.Errorf("bind a port: %w", os.NewSyscallError("bind", err))
	}
	name, err := syscall.Getsockname(fd)
	bound, ok := name.(*syscall.SockaddrInet4)
	if err != nil || !ok {
		p.close()
		return nil, fmt.Errorf("learn the bound port: %w", os.NewSyscallError("getsockname", err))
	}
	p.addr = fmt.Sprintf("127.0.0.1:%d", bound.Port)
	return p, nil
}

// revive makes it listen, at the same address.
func (p *deadPort) revive() (net.Listener, error) {
	defer p.close() // FileListener has a descriptor of its own
	if err := syscall.Listen(p.fd, syscall.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen: %w", os.NewSyscallError("listen", err))
	}
	file := os.NewFile(uintptr(p.fd), p.addr)
	p.fd = -1
	listener, err := net.FileListener(file)
	if err := file.Close(); err != nil {
		return nil, fmt.Errorf("close the socket's other descriptor: %w", err)
	}
	return listener, err
}

func (p *deadPort) close() {
	if p.fd >= 0 {
		syscall.Close(p.fd) //nolint:errcheck // nothing was written to it
		p.fd = -1
	}
}
