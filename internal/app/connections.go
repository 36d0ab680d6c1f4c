package app

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

// A crowdedListener closes the connections of an address that has too many
// open already. Those of others find room whatever it does: a limit on all of
// them together would let one client shut out the rest.
type crowdedListener struct {
	net.Listener

	limit  int
	logger *slog.Logger

	mu   sync.Mutex
	open map[netip.Addr]int
}

// limitConnections lets each address have up to limit connections; 0: any
// number.
func limitConnections(listener net.Listener, limit int, logger *slog.Logger) net.Listener {
	if limit == 0 {
		return listener
	}
	return &crowdedListener{Listener: listener, limit: limit, logger: logger, open: map[netip.Addr]int{}}
}

// Accept waits for a connection that there is room for.
func (l *crowdedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := clientOf(conn)
		if l.enter(client) {
			return &countedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(client) })}, nil
		}
		l.logger.Debug("a client has too many connections", "client", client)
		conn.Close()
	}
}

// clientOf is the address that a connection comes from. An IPv6 client has a
// whole network of 64 bits to itself, and counts as one.
func clientOf(conn net.Conn) netip.Addr {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := remote.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

func (l *crowdedListener) enter(client netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client] >= l.limit {
		return false
	}
	l.open[client]++
	return true
}

func (l *crowdedListener) leave(client netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
}

// A countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn

	leave func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
