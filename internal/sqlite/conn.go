package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"

	"postrider"
)

// A conn is the writer's connection, with its statements prepared. It speaks
// to the driver without database/sql between: that serves many connections and
// any type of value, and cost a tenth of what a delivery costs.
//
// It belongs to one goroutine.
type conn struct {
	driver.Conn
	statements []driver.Stmt
	values     []driver.NamedValue // reused
}

// uncut is the context of every statement: a transaction has many callers, and
// is not cut short for one of them.
var uncut = context.Background()

func openConn(d driver.Driver, dsn string) (*conn, error) {
	opened, err := d.Open(dsn)
	if err != nil {
		return nil, fmt.Errorf("open the writing connection: %w", err)
	}
	c := &conn{Conn: opened}
	for _, text := range writeSQL {
		prepared, err := opened.Prepare(text)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare %q: %w", text, err), c.Close())
		}
		c.statements = append(c.statements, prepared)
	}
	return c, nil
}

// Close closes the statements with the connection.
func (c *conn) Close() error {
	var errs []error
	for _, prepared := range c.statements {
		errs = append(errs, prepared.Close())
	}
	return errors.Join(append(errs, c.Conn.Close())...)
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(id statement, args []any) (int64, error) {
	result, err := c.statements[id].(driver.StmtExecContext).ExecContext(uncut, c.bind(args)) //nolint:forcetypeassert // the driver's statements all are
	if err != nil {
		return 0, fmt.Errorf("run %q: %w", writeSQL[id], err)
	}
	return result.RowsAffected()
}

func (c *conn) query(id statement, args []any) (*rows, error) {
	found, err := c.statements[id].(driver.StmtQueryContext).QueryContext(uncut, c.bind(args)) //nolint:forcetypeassert // the driver's statements all are
	if err != nil {
		return nil, fmt.Errorf("run %q: %w", writeSQL[id], err)
	}
	return &rows{found: found, values: make([]driver.Value, len(found.Columns()))}, nil
}

// bind gives the driver the types that it knows.
func (c *conn) bind(args []any) []driver.NamedValue {
	c.values = c.values[:0]
	for i, arg := range args {
		if n, isInt := arg.(int); isInt {
			arg = int64(n)
		}
		c.values = append(c.values, driver.NamedValue{Ordinal: i + 1, Value: arg})
	}
	return c.values
}

// rows are what a query found, read as sql.Rows are.
type rows struct {
	found  driver.Rows
	values []driver.Value
	err    error
}

func (r *rows) Next() bool {
	if r.err == nil {
		r.err = r.found.Next(r.values)
	}
	return r.err == nil
}

func (r *rows) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

func (r *rows) Close() error { return r.found.Close() }

func (r *rows) Scan(into ...any) error {
	if len(into) != len(r.values) {
		return fmt.Errorf("%d columns read into %d variables", len(r.values), len(into))
	}
	for i, value := range r.values {
		if err := assign(into[i], value); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

func assign(into any, value driver.Value) error {
	if scanner, can := into.(sql.Scanner); can {
		return scanner.Scan(value)
	}
	switch v := value.(type) {
	case nil:
		if b, isBytes := into.(*[]byte); isBytes {
			*b = nil
			return nil
		}
	case string:
		switch to := into.(type) {
		case *string:
			*to = v
			return nil
		case *postrider.Trigger:
			*to = postrider.Trigger(v)
			return nil
		}
	case []byte:
		if b, isBytes := into.(*[]byte); isBytes {
			*b = v
			return nil
		}
	case float64:
		if f, isFloat := into.(*float64); isFloat {
			*f = v
			return nil
		}
	case int64:
		switch to := into.(type) {
		case *int64:
			*to = v
			return nil
		case *int:
			*to = int(v)
			return nil
		case *bool:
			*to = v != 0
			return nil
		}
	}
	return fmt.Errorf("a %T cannot be read into a %T", value, into)
}

// oneRow is a query of at most one row, read as sql.Row is.
type oneRow struct {
	rows *rows
	err  error
}

func (r oneRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close() //nolint:errcheck // what was read has been read
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return sql.ErrNoRows
	}
	return r.rows.Scan(into...)
}
