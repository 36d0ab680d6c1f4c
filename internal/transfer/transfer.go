// Package transfer moves a whole store into another one, or into a stream of
// bytes and out of it again.
//
// It knows the stream's format: what it begins with, how a row is written, how
// its end tells that nothing is missing. It must not know an engine, nor what
// the rows mean. The app calls it, with stores at the ends.
//
// The stream is the line in magic, then records:
//
//	H  a value that was sealed with the source's key, about how many rows each table has
//	T  a table: its name and those of its columns; then its rows follow
//	R  a row: its values
//	E  how many rows each table had, then the SHA-256 of all before
package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"

	"postrider"
)

// magic begins the stream, and the version of its format ends the line.
const (
	magic   = "postrider export "
	version = "1\n"
)

// Records, and the kinds of values in a row.
const (
	header, table, row, end = 'H', 'T', 'R', 'E'

	null, text, bytes, whole, float = 'n', 't', 'b', 'i', 'f'
)

// A Source is a store that is moved from.
type Source interface {
	Export(ctx context.Context, begin func(rows []int64) error, row func(*postrider.ExportTable, []any) error) error
}

// A Target is an empty store that is moved into: wholly, or not at all.
type Target interface {
	Import(ctx context.Context, next func() (postrider.ExportBatch, error), check func(rows []int64) error) error
}

// A Sealer encrypts with a store's key.
type Sealer interface {
	Seal(plain, context []byte) []byte
	Open(sealed, context []byte) ([]byte, error)
}

// sealedCheck is the text, and the context, of the value by which the target's
// key is known to be the source's.
var sealedCheck = []byte("postrider export")

// Progress is told how many rows have moved, of about how many.
type Progress func(done, total int64)

// Write writes all that is in a store to w, and returns how many rows that are
// of each table.
func Write(ctx context.Context, w io.Writer, from Source, key Sealer, progress Progress) ([]int64, error) {
	sum := sha256.New()
	buffered := bufio.NewWriterSize(w, 1<<16)
	e := encoder{w: io.MultiWriter(buffered, sum), rows: make([]int64, len(postrider.ExportTables))}
	var total, done int64
	begin := func(rows []int64) error {
		e.buf = append(e.buf, magic+version...)
		e.buf = append(e.buf, header)
		e.bytes(key.Seal(sealedCheck, sealedCheck))
		for _, n := range rows {
			e.number(n)
			total += n
		}
		return e.flush()
	}
	err := from.Export(ctx, begin, func(t *postrider.ExportTable, values []any) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.row(t, values); err != nil {
			return err
		}
		done++
		progress(done, max(done, total))
		return nil
	})
	if err != nil {
		return nil, err
	}
	e.buf = append(e.buf, end)
	for _, n := range e.rows {
		e.number(n)
	}
	if err := e.flush(); err != nil {
		return nil, err
	}
	if _, err := buffered.Write(sum.Sum(nil)); err != nil {
		return nil, err
	}
	return e.rows, buffered.Flush()
}

// An encoder writes records.
type encoder struct {
	w       io.Writer
	buf     []byte // the record that is being made
	current *postrider.ExportTable
	rows    []int64
}

func (e *encoder) row(t *postrider.ExportTable, values []any) error {
	if t != e.current {
		e.current = t
		e.buf = append(e.buf, table)
		e.bytes([]byte(t.Name))
		e.number(int64(len(t.Columns)))
		for _, column := range t.Columns {
			e.bytes([]byte(column.Name))
		}
	}
	e.buf = append(e.buf, row)
	for _, value := range values {
		switch v := value.(type) {
		case nil:
			e.buf = append(e.buf, null)
		case string:
			e.buf = append(e.buf, text)
			e.number(int64(len(v)))
			e.buf = append(e.buf, v...)
		case []byte:
			e.buf = append(e.buf, bytes)
			e.bytes(v)
		case int64:
			e.buf = append(e.buf, whole)
			e.number(v)
		case float64:
			e.buf = append(e.buf, float)
			e.buf = binary.BigEndian.AppendUint64(e.buf, math.Float64bits(v))
		default:
			return fmt.Errorf("export %s: a %T has no form", t.Name, value)
		}
	}
	e.rows[place(t)]++
	return e.flush()
}

func (e *encoder) number(n int64) { e.buf = binary.AppendVarint(e.buf, n) }

func (e *encoder) bytes(b []byte) {
	e.number(int64(len(b)))
	e.buf = append(e.buf, b...)
}

func (e *encoder) flush() error {
	_, err := e.w.Write(e.buf)
	e.buf = e.buf[:0]
	return err
}

// place is where a table stands among all.
func place(t *postrider.ExportTable) int {
	return slices.IndexFunc(postrider.ExportTables, func(other postrider.ExportTable) bool { return other.Name == t.Name })
}

// Bounds of what is read before it is handed on.
const (
	batchRows  = 1000
	batchBytes = 4 << 20
	maxValue   = 1 << 28 // longer ones are damage
)

// An Export is what Write has written, and was begun to be read.
type Export struct {
	decoder
	total int64 // about how many rows there are
}

// Open reads how an export begins: it is one, of this version, and of a store
// whose key this is. So no target needs to be touched for what is not.
func Open(r io.Reader, key Sealer) (*Export, error) {
	e := &Export{decoder: decoder{r: bufio.NewReaderSize(r, 1<<16), sum: sha256.New(), rows: make([]int64, len(postrider.ExportTables))}}
	var err error
	e.total, err = e.header(key)
	return e, err
}

// Fill moves the rest into an empty store, and returns how many rows of each
// table that are. When it does not come to its end, the store is still empty.
func (e *Export) Fill(ctx context.Context, to Target, progress Progress) ([]int64, error) {
	d, total := &e.decoder, e.total
	var done int64
	err := to.Import(ctx, func() (postrider.ExportBatch, error) {
		if err := ctx.Err(); err != nil {
			return postrider.ExportBatch{}, err
		}
		batch, err := d.batch()
		done += int64(len(batch.Rows))
		progress(done, max(done, total))
		return batch, err
	}, func(stored []int64) error {
		if !slices.Equal(stored, d.rows) {
			return fmt.Errorf("the target counts %d rows of the tables, and the export had %d", stored, d.rows)
		}
		return nil
	})
	return d.rows, err
}

// A decoder reads records. What it returns in errors wraps postrider.ErrDamaged where
// the stream is at fault.
type decoder struct {
	r       *bufio.Reader
	sum     hash.Hash
	current *postrider.ExportTable
	rows    []int64
	kind    byte // of the next record; 0: not read yet
	one     [1]byte
}

// header reads up to the first table, and returns about how many rows there
// are.
func (d *decoder) header(key Sealer) (total int64, err error) {
	begin, err := d.take(len(magic + version))
	switch {
	case err != nil && !errors.Is(err, postrider.ErrDamaged):
		return 0, err
	case err != nil || string(begin[:len(magic)]) != magic:
		return 0, postrider.ErrNoExport
	case string(begin[len(magic):]) != version:
		return 0, postrider.ErrOtherVersion
	}
	kind, err := d.byte()
	if err != nil {
		return 0, err
	}
	if kind != header {
		return 0, postrider.ErrDamaged
	}
	sealed, err := d.bytes()
	if err != nil {
		return 0, err
	}
	if _, err := key.Open(sealed, sealedCheck); err != nil {
		return 0, postrider.ErrOtherKey
	}
	for range postrider.ExportTables {
		n, err := d.number()
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// batch reads rows of one table; io.EOF comes after the last, when nothing is
// missing.
func (d *decoder) batch() (batch postrider.ExportBatch, err error) {
	for size := 0; len(batch.Rows) < batchRows && size < batchBytes; {
		if d.kind == 0 {
			if d.kind, err = d.byte(); err != nil {
				return batch, err
			}
		}
		switch d.kind {
		case row:
			values, n, err := d.row()
			if err != nil {
				return batch, err
			}
			batch.Table, batch.Rows = d.current, append(batch.Rows, values)
			size += n
		case table, end:
			if len(batch.Rows) > 0 {
				return batch, nil // the record is the next batch's
			}
			if d.kind == end {
				return batch, d.end()
			}
			if err := d.table(); err != nil {
				return batch, err
			}
		default:
			return batch, postrider.ErrDamaged
		}
		d.kind = 0
	}
	return batch, nil
}

func (d *decoder) table() error {
	name, err := d.bytes()
	if err != nil {
		return err
	}
	n := place(&postrider.ExportTable{Name: string(name)})
	if n < 0 {
		return postrider.ErrDamaged
	}
	d.current = &postrider.ExportTables[n]
	columns, err := d.number()
	if err != nil {
		return err
	}
	if columns != int64(len(d.current.Columns)) {
		return postrider.ErrDamaged
	}
	for _, column := range d.current.Columns {
		name, err := d.bytes()
		if err != nil {
			return err
		}
		if string(name) != column.Name {
			return postrider.ErrDamaged
		}
	}
	return nil
}

// row reads a row, and returns about how much memory it takes.
func (d *decoder) row() (values []any, size int, err error) {
	if d.current == nil {
		return nil, 0, postrider.ErrDamaged
	}
	d.rows[place(d.current)]++
	values = make([]any, len(d.current.Columns))
	for i := range values {
		kind, err := d.byte()
		if err != nil {
			return nil, 0, err
		}
		switch kind {
		case null:
		case text:
			b, err := d.bytes()
			if err != nil {
				return nil, 0, err
			}
			values[i] = string(b)
			size += len(b)
		case bytes:
			b, err := d.bytes()
			if err != nil {
				return nil, 0, err
			}
			values[i] = b
			size += len(b)
		case whole:
			if values[i], err = d.number(); err != nil {
				return nil, 0, err
			}
		case float:
			b, err := d.take(8)
			if err != nil {
				return nil, 0, err
			}
			values[i] = math.Float64frombits(binary.BigEndian.Uint64(b))
		default:
			return nil, 0, postrider.ErrDamaged
		}
	}
	return values, size, nil
}

// end checks that all has come, as it was written.
func (d *decoder) end() error {
	for _, had := range d.rows {
		n, err := d.number()
		if err != nil {
			return err
		}
		if n != had {
			return postrider.ErrDamaged
		}
	}
	want := d.sum.Sum(nil)
	got, err := d.take(len(want))
	if err != nil {
		return err
	}
	if string(got) != string(want) {
		return postrider.ErrDamaged
	}
	return io.EOF
}

func (d *decoder) byte() (byte, error) {
	b, err := d.r.ReadByte()
	if err != nil {
		return 0, readError(err)
	}
	d.one[0] = b
	d.sum.Write(d.one[:])
	return b, nil
}

func (d *decoder) number() (int64, error) {
	n, err := binary.ReadVarint(byteReader{d})
	if err != nil && !errors.Is(err, postrider.ErrDamaged) && !errors.Is(err, errRead) {
		return 0, postrider.ErrDamaged // it overflows
	}
	return n, err
}

type byteReader struct{ d *decoder }

func (r byteReader) ReadByte() (byte, error) { return r.d.byte() }

func (d *decoder) bytes() ([]byte, error) {
	n, err := d.number()
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxValue {
		return nil, postrider.ErrDamaged
	}
	return d.take(int(n))
}

// errRead is the error of a stream that could not be read, for a reason of its
// own.
var errRead = errors.New("read the source")

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return postrider.ErrDamaged
	}
	return fmt.Errorf("%w: %w", errRead, err)
}

// chunk is how much memory is taken at once: a length that is damage costs no
// more than what has come.
const chunk = 1 << 20

// take reads n bytes, and adds them to the sum.
func (d *decoder) take(n int) ([]byte, error) {
	b := make([]byte, 0, min(n, chunk))
	for len(b) < n {
		more := min(n-len(b), chunk)
		b = slices.Grow(b, more)[:len(b)+more]
		if _, err := io.ReadFull(d.r, b[len(b)-more:]); err != nil {
			return nil, readError(err)
		}
	}
	d.sum.Write(b)
	return b, nil
}
