package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"

	"postrider"
)

// cursors seals the position in a list into an opaque text. A cursor is only
// good for the list and the tenant that it was made for: a position is an id,
// and nobody is to page by an id of their choice.
type cursors struct{ key [32]byte }

// tagSize is enough for a text that opens nothing but the sender's own list.
const tagSize = 16

func (c *cursors) seal(list, tenant, position string) string {
	return base64.RawURLEncoding.EncodeToString(append(c.tag(list, tenant, position), position...))
}

// open gives the position; that of an empty cursor is empty, the list's start.
func (c *cursors) open(list, tenant, cursor string) (position string, err error) {
	if cursor == "" {
		return "", nil
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(sealed) <= tagSize || !hmac.Equal(sealed[:tagSize], c.tag(list, tenant, string(sealed[tagSize:]))) {
		return "", errCursor
	}
	return string(sealed[tagSize:]), nil
}

var errCursor = malformed("cursor", "invalid_cursor",
	"This cursor was not given out for this list. Take next_cursor of the page before, or start without one.")

// openID is open for a list that is in the order of ids.
func (c *cursors) openID(list, tenant, cursor string) (id postrider.ID, err error) {
	position, err := c.open(list, tenant, cursor)
	if err == nil {
		copy(id[:], position)
	}
	return id, err
}

func (c *cursors) sealID(list, tenant string, id postrider.ID) string {
	return c.seal(list, tenant, string(id[:]))
}

func (c *cursors) tag(list, tenant, position string) []byte {
	mac := hmac.New(sha256.New, c.key[:])
	// Neither a list nor a tenant has a zero byte in its name.
	mac.Write([]byte(list + "\x00" + tenant + "\x00" + position))
	return mac.Sum(nil)[:tagSize]
}

// PageQuery is embedded in the input of every list.
type PageQuery struct {
	Limit  int    `query:"limit" default:"30" minimum:"1" maximum:"100" doc:"How many entries a page has at most."`
	Cursor string `query:"cursor" doc:"The next_cursor of the page before; absent for the first page."`
}

// A page is one part of a list.
type page[T any] struct {
	Data       []T    `json:"data" nullable:"false" doc:"The entries, newest first (the catalogue: by name)."`
	NextCursor string `json:"next_cursor,omitempty" doc:"Give it as cursor to get the next page. Absent on the last page."`
}

type listOutput[T any] struct {
	Link string `header:"Link" doc:"The next page with rel=\"next\" (RFC 8288); absent on the last page."`
	Body page[T]
}

// newPage is a page of the list that the request asked for.
func newPage[T any](c *call, data []T, next string) *listOutput[T] {
	out := &listOutput[T]{Body: page[T]{Data: data, NextCursor: next}}
	if next != "" {
		query := c.url.Query()
		query.Set("cursor", next)
		link := url.URL{Path: c.url.Path, RawPath: c.url.RawPath, RawQuery: query.Encode()}
		out.Link = "<" + link.String() + `>; rel="next"`
	}
	return out
}
