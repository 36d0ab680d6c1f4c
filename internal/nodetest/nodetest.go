// Package nodetest holds several real nodes on one real PostgreSQL to what is
// promised of them, while nodes and database are killed, frozen and restarted.
//
// It knows processes, HTTP and what receivers see. It must not know how the
// nodes agree. It has tests only.
package nodetest
