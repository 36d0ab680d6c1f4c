package sqlite

import (
	"context"
	"database/sql/driver"
	"testing"
)

// What follows lets tests run SQL of their own on the writer's connection,
// while the writer does nothing.

func (c *conn) prepare(text string) (driver.Stmt, error) {
	prepared, err := c.Prepare(text)
	if err == nil {
		c.statements = append(c.statements, prepared) // closed with the others
	}
	return prepared, err
}

func (c *conn) ExecContext(ctx context.Context, text string, args ...any) (driver.Result, error) {
	prepared, err := c.prepare(text)
	if err != nil {
		return nil, err
	}
	return prepared.(driver.StmtExecContext).ExecContext(ctx, c.bind(args))
}

func (c *conn) QueryContext(ctx context.Context, text string, args ...any) (*rows, error) {
	prepared, err := c.prepare(text)
	if err != nil {
		return nil, err
	}
	found, err := prepared.(driver.StmtQueryContext).QueryContext(ctx, c.bind(args))
	if err != nil {
		return nil, err
	}
	return &rows{found: found, values: make([]driver.Value, len(found.Columns()))}, nil
}

func (c *conn) QueryRowContext(ctx context.Context, text string, args ...any) oneRow {
	found, err := c.QueryContext(ctx, text, args...)
	return oneRow{found, err}
}

func TestAssign_RefusesWhatDoesNotFit(t *testing.T) {
	var text string
	var number int
	for _, test := range []struct {
		into  any
		value driver.Value
	}{{&text, int64(1)}, {&number, "1"}, {&text, nil}, {&number, nil}, {&number, []byte("1")}, {&text, 1.5}} {
		if err := assign(test.into, test.value); err == nil {
			t.Errorf("a %T was read into a %T", test.value, test.into)
		}
	}
}
