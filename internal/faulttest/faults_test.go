package faulttest

import (
	"context"
	"database/sql"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look at the database that a server left behind

	"postrider/internal/e2e"
	"postrider/internal/sqlite"
)

// A fault happens to the present run of a server and ends it, or does not.
type fault struct {
	name string
	do   func(*trial, *rand.Rand) (ended bool)
}

var faults = []fault{
	{"killed at a random moment", func(x *trial, _ *rand.Rand) bool {
		x.kill()
		return true
	}},
	{"killed with an answer", func(x *trial, random *rand.Rand) bool {
		x.strike(true, time.Duration(random.IntN(1500))*time.Microsecond)
		return true
	}},
	{"killed before an answer", func(x *trial, _ *rand.Rand) bool {
		x.strike(false, 0)
		return true
	}},
	{"frozen", func(x *trial, random *rand.Rand) bool {
		x.freeze(time.Duration(20+random.IntN(150)) * time.Millisecond)
		return false
	}},
	{"frozen and killed", func(x *trial, random *rand.Rand) bool {
		x.freeze(time.Duration(20+random.IntN(50)) * time.Millisecond)
		x.kill()
		return true
	}},
	{"stopped", func(x *trial, _ *rand.Rand) bool {
		x.stop()
		return true
	}},
}

// Whatever happens to the server while events come in: nothing that it has
// accepted is lost, a crash repeats at most what was in flight, a stop repeats
// nothing, what is ordered stays so, and the logs say what receivers saw.
func TestTrial_NothingIsLostWhateverHappensToTheServer(t *testing.T) {
	e2e.WithEachEngine(t, testTrial)
}

func testTrial(t *testing.T, flags ...string) {
	t.Logf("to run it again: go test ./internal/faulttest -run TestTrial -seed %d -rounds %d", *firstSeed, *rounds)
	random := rand.New(rand.NewPCG(*firstSeed, 1))
	x := newTrial(t, *firstSeed, flags...)
	x.publish(4)
	done := map[string]int{}
	for range *rounds {
		<-time.After(time.Duration(random.IntN(60)) * time.Millisecond)
		f := faults[random.IntN(len(faults))]
		done[f.name]++
		if f.do(x, random) {
			x.start()
		}
		if t.Failed() {
			break
		}
	}
	h := x.finish()
	report(t, h)
	for _, name := range slices.Sorted(maps.Keys(done)) {
		t.Logf("%s: %d times", name, done[name])
	}
	if len(h.accepted) < *rounds || len(h.killed) == 0 && *rounds > 10 {
		t.Errorf("got %d events and %d crashes, want enough to tell", len(h.accepted), len(h.killed))
	}
}

// report says in figures what a history showed.
func report(t *testing.T, h *history) {
	t.Helper()
	most := 0
	for _, hook := range h.hooks {
		most += hook.atStake()
	}
	t.Logf("%d events accepted, %d requests received, %d crashes; lost 0, repeated %d of at most %d",
		len(h.accepted), len(h.receipts), len(h.killed), len(h.repeated()), most*len(h.killed))
}

// The server is stopped and started anew, over and over, while producers go on
// and receivers take their time: nothing is lost and nothing comes twice.
func TestRestart_RollingUnderLoadLosesAndRepeatsNothing(t *testing.T) {
	x := newTrial(t, *firstSeed)
	x.publish(4)
	for range 8 {
		<-time.After(80 * time.Millisecond)
		x.stop()
		x.start()
	}
	h := x.finish()
	report(t, h)
	if repeated := h.repeated(); len(repeated) != 0 || len(h.accepted) < 20 {
		t.Errorf("got %d requests repeated of %d events, want none", len(repeated), len(h.accepted))
	}
}

// A node that was frozen for longer than an attempt may take goes on where it
// was: what timed out is attempted again, and nothing else.
func TestFreeze_LongerThanAnAttemptMayTake(t *testing.T) {
	x := newTrial(t, *firstSeed, "--timeout", "1s")
	x.publish(2)
	<-time.After(100 * time.Millisecond)
	x.freeze(1500 * time.Millisecond)
	<-time.After(100 * time.Millisecond)
	x.mu.Lock()
	x.history.late = map[int]bool{x.run: true}
	x.mu.Unlock()
	report(t, x.finish())
}

// checkIntegrity looks for damage in the files of a server that has ended.
func checkIntegrity(t *testing.T, dir string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, sqlite.FileName)+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // it was only read
	var verdict string
	if err := db.QueryRowContext(context.WithoutCancel(t.Context()), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("got %q, %v from the check of the database's integrity, want ok", verdict, err)
	}
}
