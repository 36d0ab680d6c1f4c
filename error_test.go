package postrider_test

import (
	"errors"
	"fmt"
	"testing"

	"postrider"
)

func TestFaults_TellNoneOneOrAll(t *testing.T) {
	first := &postrider.Error{Kind: postrider.TooLarge, Field: "payload", Code: "payload_too_large", Detail: "Too large."}
	second := &postrider.Error{Kind: postrider.Invalid, Field: "id", Code: "invalid_id", Detail: "Wrong."}
	var faults postrider.Faults
	faults.Add(nil)
	if err := faults.Err(); err != nil {
		t.Errorf("got %v without a fault, want nil", err)
	}
	faults.Add(fmt.Errorf("wrapped: %w", first))
	if err := faults.Err(); !errors.Is(err, first) {
		t.Errorf("got %v, want the only fault itself", err)
	}
	faults.Add(second)
	e, ok := errors.AsType[*postrider.Error](faults.Err())
	if !ok || e.Code != "invalid" || len(e.Fields) != 2 || e.Fields[0].Code != "payload_too_large" || e.Fields[1].Field != "id" {
		t.Errorf("got %+v, want both listed", e)
	}
	var outer postrider.Faults // a list inside a list is one list
	outer.Add(faults.Err())
	outer.Add(first)
	if e, ok := errors.AsType[*postrider.Error](outer.Err()); !ok || len(e.Fields) != 3 {
		t.Errorf("got %+v, want three faults", e)
	}
}

func TestFaults_AnInternalErrorIsNoFaultOfTheUsers(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got an internal error taken for the user's fault")
		}
	}()
	new(postrider.Faults).Add(errors.New("connection lost"))
}

func TestError_NamesItsField(t *testing.T) {
	e := &postrider.Error{Field: "url", Detail: "It is wrong."}
	if got, want := e.Error(), "url: It is wrong."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := postrider.Missing("webhook").Error(), "There is no such webhook."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
