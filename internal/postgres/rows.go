package postgres

import (
	"encoding/binary"
	"math"
	"time"

	"postrider"
)

// Rows are the rows of one multi-row statement, which takes each column as an
// array. They are encoded as the values come, in PostgreSQL's binary form:
// there are many of them, and their types are known.
type rows struct {
	columns []column
	at      int // the next value's column
	n       int
}

// A column is an array, without its header.
type column struct {
	kind  uint32
	buf   []byte
	nulls bool
}

// The element types, by their fixed numbers in pg_type.
const (
	boolType  = 16
	bytesType = 17
	int8Type  = 20
	int4Type  = 23
	textType  = 25
	dateType  = 1082
	timeType  = 1184
	uuidType  = 2950
)

// arrayHeader is dimensions, nulls, type, length and lower bound.
const arrayHeader = 20

func newRows(kinds ...uint32) *rows {
	r := &rows{columns: make([]column, len(kinds))}
	for i, kind := range kinds {
		r.columns[i] = column{kind: kind, buf: make([]byte, arrayHeader, 256)}
	}
	return r
}

// value is where the next value goes, its length before it.
func (r *rows) value(size int) *column {
	c := &r.columns[r.at]
	if r.at++; r.at == len(r.columns) {
		r.at = 0
		r.n++
	}
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(size))
	return c
}

func (r *rows) null() *rows {
	c := r.value(-1)
	c.nulls = true
	return r
}

func (r *rows) text(s string) *rows {
	c := r.value(len(s))
	c.buf = append(c.buf, s...)
	return r
}

func (r *rows) bytes(b []byte) *rows {
	c := r.value(len(b))
	c.buf = append(c.buf, b...)
	return r
}

func (r *rows) id(id postrider.ID) *rows { return r.bytes(id[:]) }

func (r *rows) int4(n int) *rows {
	c := r.value(4)
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(min(n, math.MaxInt32)))
	return r
}

func (r *rows) int8(n int64) *rows {
	c := r.value(8)
	c.buf = binary.BigEndian.AppendUint64(c.buf, uint64(n))
	return r
}

func (r *rows) bool(b bool) *rows {
	c := r.value(1)
	if b {
		c.buf = append(c.buf, 1)
	} else {
		c.buf = append(c.buf, 0)
	}
	return r
}

// time writes NULL for the zero time.
func (r *rows) time(t time.Time) *rows {
	if t.IsZero() {
		return r.null()
	}
	return r.int8(t.UnixMicro() - epoch)
}

func (r *rows) day(d day) *rows { return r.int4(int(d)) }

// epoch is 2000-01-01, from where PostgreSQL counts, in microseconds.
const epoch = 946_684_800_000_000

// params are the arrays, and what else the statement takes after them.
func (r *rows) params(more ...[]byte) [][]byte {
	params := make([][]byte, 0, len(r.columns)+len(more))
	for i := range r.columns {
		c := &r.columns[i]
		header := c.buf[:0:arrayHeader]
		header = binary.BigEndian.AppendUint32(header, 1)
		nulls := uint32(0)
		if c.nulls {
			nulls = 1
		}
		header = binary.BigEndian.AppendUint32(header, nulls)
		header = binary.BigEndian.AppendUint32(header, c.kind)
		header = binary.BigEndian.AppendUint32(header, uint32(r.n))
		binary.BigEndian.AppendUint32(header, 1)
		params = append(params, c.buf)
	}
	return append(params, more...)
}

func int8Param(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func int4Param(n int) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(min(n, math.MaxInt32)))
}

func boolParam(b bool) []byte {
	if b {
		return []byte{1}
	}
	return []byte{0}
}

// The inverse, for what a statement of the writer returns.

func readInt4(b []byte) int { return int(int32(binary.BigEndian.Uint32(b))) }

func readTime(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epoch).UTC()
}

// A day is one of UTC, counted from 2000-01-01: a date as PostgreSQL has it.
type day int32

const dayLength = 24 * time.Hour

func dayOf(t time.Time) day {
	days := (t.UnixMicro() - epoch) / dayLength.Microseconds()
	if t.UnixMicro() < epoch && (t.UnixMicro()-epoch)%dayLength.Microseconds() != 0 {
		days-- // the division rounds towards zero
	}
	return day(days)
}

// start is the day's first moment.
func (d day) start() time.Time {
	return time.UnixMicro(epoch + int64(d)*dayLength.Microseconds()).UTC()
}

func (d day) String() string { return d.start().Format(time.DateOnly) }

// idDay is the day in an id.
func idDay(id postrider.ID) day {
	return dayOf(time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16)))
}

// idAt is below every id made at or after t's millisecond.
func idAt(t time.Time) (id postrider.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, t.UnixMilli()))<<16)
	return id
}
