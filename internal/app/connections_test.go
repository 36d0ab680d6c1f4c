package app

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"
)

// accepting hands on what a listener accepts.
func accepting(t *testing.T, limit int) (address string, accepted chan net.Conn) {
	t.Helper()
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := limitConnections(inner, limit, slog.New(slog.DiscardHandler))
	accepted = make(chan net.Conn, 16)
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		for conn := range accepted {
			conn.Close()
		}
	})
	return inner.Addr().String(), accepted
}

// from connects from a loopback address of one's own.
func from(t *testing.T, source, address string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestConnections_AClientWithManyLeavesRoomForOthers(t *testing.T) {
	address, accepted := accepting(t, 2)
	from(t, "127.0.0.1", address)
	first := <-accepted
	from(t, "127.0.0.1", address)
	second := <-accepted
	defer second.Close()

	crowded := from(t, "127.0.0.1", address)
	if _, err := crowded.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("got %v on the third connection, want it closed", err)
	}
	from(t, "127.0.0.2", address)
	other := <-accepted
	if got := other.RemoteAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.2" {
		t.Errorf("got a connection from %s, want the other client's", got)
	}
	other.Close()

	first.Close()
	first.Close() // a place is given back once, however often it is closed
	from(t, "127.0.0.1", address)
	(<-accepted).Close()
}

func isReset(err error) bool {
	var e *net.OpError
	return errors.As(err, &e)
}

func TestConnections_AnIPv6ClientIsItsNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::", "[::ffff:192.0.2.1]:80": "192.0.2.1", "192.0.2.1:80": "192.0.2.1",
	} {
		remote := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
		if got := clientOf(remoteConn{remote: remote}); got.String() != want {
			t.Errorf("%s: got %v, want %s", address, got, want)
		}
	}
}

// A remoteConn comes from an address.
type remoteConn struct {
	net.Conn

	remote net.Addr
}

func (c remoteConn) RemoteAddr() net.Addr { return c.remote }
