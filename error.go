package postrider

import (
	"errors"
	"time"
)

// Kind sorts the errors that a user may see by what the user can do about
// them. The API maps each kind to one HTTP status.
type Kind uint8

// The kinds of errors that a user may see.
const (
	Invalid         Kind = iota + 1 // a value is wrong (422)
	Malformed                       // the request cannot be read at all (400)
	Unauthenticated                 // no key, or one that is unknown (401)
	Forbidden                       // the key may not do this (403)
	NotFound                        // no such thing, or not this tenant's (404)
	Conflict                        // the thing's present state forbids it (409)
	TooLarge                        // over a size limit (413)
	RateLimited                     // over a rate limit (429)
	Unavailable                     // a part is down for now (503)
	StorageFull                     // the disk is full (507)
)

// An Error is the only kind of error whose text may be shown to a user. All
// other errors are our own trouble: logged, and shown as "internal error".
//
// Code is stable and machine readable. Detail is a sentence that says what is
// wrong and, where there is one, the next step. Field is the JSON name of the
// field at fault, with the path of a nested one (headers.X-Foo, events[2]),
// empty when no single field is.
type Error struct {
	Kind   Kind
	Field  string
	Code   string
	Detail string

	// Fields lists each fault when a request has several; Field is then empty.
	Fields []FieldError
	// RetryAfter is how long to wait before the same request can succeed;
	// zero when waiting does not help.
	RetryAfter time.Duration
}

// A FieldError is one fault of a request that has several.
type FieldError struct {
	Field  string
	Code   string
	Detail string
}

func (e *Error) Error() string {
	if e.Field != "" {
		return e.Field + ": " + e.Detail
	}
	return e.Detail
}

// invalid is the error of one field with a wrong value.
func invalid(field, code, detail string) *Error {
	return &Error{Kind: Invalid, Field: field, Code: code, Detail: detail}
}

// Missing is the error of an id that names nothing the caller may see. The
// same text stands for "does not exist" and "belongs to another tenant".
func Missing(noun string) *Error {
	return &Error{Kind: NotFound, Code: "not_found", Detail: "There is no such " + noun + "."}
}

// Faults collects the faults of one request, so that all are reported at once.
// The zero value has none.
type Faults struct{ list []*Error }

// Add notes err. A nil err is no fault; it panics on an error that is no
// *Error, since that is not the user's to see.
func (f *Faults) Add(err error) {
	if err == nil {
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		panic("postrider: an internal error is no fault of the request: " + err.Error())
	}
	f.list = append(f.list, e)
}

// Err is nil without faults, the fault itself when it is the only one, and an
// error with code "invalid" that lists them when there are several.
func (f *Faults) Err() error {
	switch len(f.list) {
	case 0:
		return nil
	case 1:
		return f.list[0]
	}
	all := &Error{Kind: Invalid, Code: "invalid", Detail: "Several fields are invalid."}
	for _, e := range f.list {
		if len(e.Fields) > 0 {
			all.Fields = append(all.Fields, e.Fields...)
		} else {
			all.Fields = append(all.Fields, FieldError{Field: e.Field, Code: e.Code, Detail: e.Detail})
		}
	}
	return all
}
