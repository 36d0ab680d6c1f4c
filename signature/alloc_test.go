//go:build !race

// Under the race detector sync.Pool drops states at random, so that there is
// nothing to count.

package signature_test

import (
	"bytes"
	"testing"
	"time"

	"postrider/signature"
)

// The hot path signs each body twice with no garbage.
func TestSigner_AllocatesNothing(t *testing.T) {
	signer := signature.NewSigner(whsec)
	body := bytes.Repeat([]byte("x"), 512)
	at := time.Unix(1614265330, 0)
	dst := make([]byte, 0, 256)
	got := testing.AllocsPerRun(1000, func() {
		dst = signer.AppendHex(dst[:0], body)
		dst = signer.AppendStandard(dst, "0197c9e4-7f3a-7000-8000-0123456789ab", at, body)
	})
	if got >= 1 {
		t.Errorf("got %v allocations a body, want none", got)
	}
}
