package postgres

import (
	"errors"
	"testing"

	"postrider"
)

func TestExport_KeepsOtherNodesOut(t *testing.T) {
	database := newDatabase(t)
	s := openNode(t, database)
	if err := s.Export(t.Context(), func([]int64) error {
		other, err := Open(t.Context(), options(database))
		if err == nil {
			return errors.Join(errors.New("a node started in the middle of an export"), other.Close())
		}
		if !errors.Is(err, errBusy) {
			t.Errorf("got %v, want it to be told why it cannot start", err)
		}
		return nil
	}, func(*postrider.ExportTable, []any) error { return nil }); err != nil {
		t.Error(err)
	}
	openNode(t, database)
}
