package postgres

import (
	"fmt"
	"strings"
	"testing"
)

// What a store has made is gone, whatever the migrations add.
func TestDropTables_LeavesAnEmptyDatabase(t *testing.T) {
	name := fmt.Sprintf("scratch%d", databases.Add(1))
	if err := cluster.Do(t.Context(), "postgres", `CREATE DATABASE `+name); err != nil {
		t.Fatal(err)
	}
	url := cluster.URL(name)
	for range 2 {
		if err := CheckEmpty(t.Context(), url); err != nil {
			t.Fatalf("got %v of an empty database", err)
		}
		if err := open(t, name).Close(); err != nil {
			t.Fatal(err)
		}
		refused := CheckEmpty(t.Context(), url)
		if refused == nil || !strings.Contains(refused.Error(), "it has api_keys;") {
			t.Errorf("got %v of a database with a store, want it refused with a table's name", refused)
		}
		if err := DropTables(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
}
