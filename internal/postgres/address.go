package postgres

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Address is where the database was reached, as the guard of webhooks' targets
// has to know it; not valid for a socket of this machine's file system.
func (s *Store) Address(ctx context.Context) (addr netip.AddrPort, err error) {
	err = s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		if tcp, ok := c.Conn().PgConn().Conn().RemoteAddr().(*net.TCPAddr); ok {
			addr = tcp.AddrPort()
		}
		return nil
	})
	if err != nil {
		return addr, fmt.Errorf("ask for the database's address: %w", err)
	}
	return addr, nil
}
