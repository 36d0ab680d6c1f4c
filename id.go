package postrider

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"
)

// ID names a webhook, an attempt or an API key: a UUID of version 7 (RFC 9562,
// section 5.7). IDs made by one process sort in the order in which they were
// made, so that "newest first" is an index read from its end. The zero ID
// names nothing.
type ID [16]byte

// lastTick is the newest 60-bit time stamp given out by NewID: milliseconds
// since 1970 above 12 bits that count inside the millisecond.
var lastTick atomic.Uint64

// NewID makes an ID for the present moment. It never fails and may be called
// from many goroutines.
func NewID() ID {
	now := time.Now()
	tick := uint64(now.UnixMilli())<<12 | uint64(now.Nanosecond()%1e6)<<12/1e6
	for {
		last := lastTick.Load()
		if tick <= last {
			tick = last + 1
		}
		if lastTick.CompareAndSwap(last, tick) {
			break
		}
	}
	var id ID
	binary.BigEndian.PutUint64(id[:8], tick<<4) // 48 bits of time, then 12 of count
	rand.Read(id[8:])                           // never returns an error since Go 1.24
	count := tick & 0xfff
	binary.BigEndian.PutUint16(id[6:8], uint16(0x7000|count))
	id[8] = id[8]&0x3f | 0x80
	return id
}

var errID = errors.New("not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")

// ParseID reads the canonical 36-character form, lower or upper case. Other
// spellings of a UUID (braces, urn:, no dashes) are refused, so that an ID has
// one spelling in URLs and logs.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, errID
	}
	var digits [32]byte
	n := copy(digits[:], text[:8])
	n += copy(digits[n:], text[9:13])
	n += copy(digits[n:], text[14:18])
	n += copy(digits[n:], text[19:23])
	copy(digits[n:], text[24:])
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return ID{}, errID
	}
	return id, nil
}

// String is the canonical form: 36 characters, lower case.
func (id ID) String() string {
	text, _ := id.AppendText(make([]byte, 0, 36))
	return string(text)
}

// AppendText appends the canonical form. It never fails.
func (id ID) AppendText(b []byte) ([]byte, error) {
	b = hex.AppendEncode(b, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, part)
	}
	return b, nil
}

// MarshalText is the canonical form, for JSON.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// IsZero reports whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }
