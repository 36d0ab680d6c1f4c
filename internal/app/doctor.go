package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postrider"
	"postrider/internal/postgres"
)

// CheckEmpty refuses a database that has anything in it.
func CheckEmpty(ctx context.Context, url postrider.Secret) error {
	return postgres.CheckEmpty(ctx, string(url))
}

// DropTables removes the store, with all that is in it, from a database that
// was made for a trial.
func DropTables(ctx context.Context, url postrider.Secret) error {
	return postgres.DropTables(ctx, string(url))
}

// What is worth a warning of a database.
const (
	slowDatabase   = 5 * time.Millisecond
	oldTransaction = 5 * time.Minute
	deadRows       = 200_000
)

// ExamineDatabase tells note what it finds of a database: a check, its status,
// what was seen, and what to do.
func ExamineDatabase(ctx context.Context, url postrider.Secret, note func(check, status, detail, hint string)) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := postgres.Examine(ctx, string(url))
	if err != nil {
		note("database", "fail", err.Error(), "is database_url right, and may this machine connect?")
		return
	}
	if !c.Supported {
		note("database", "fail", "it is PostgreSQL "+c.Version, "use 14 or later")
		return
	}
	note("database", "ok", fmt.Sprintf("PostgreSQL %s, %s", c.Version, nodesAlive(c.Nodes)), "")
	if len(c.Dangerous) > 0 {
		note("database", "warn", strings.Join(c.Dangerous, ", "), "switch it on: without it a crash of the database loses events that were accepted")
	}
	status, hint := "ok", ""
	if c.Latency > slowDatabase {
		status, hint = "warn", "put the nodes near the database: every publish waits for it a few times"
	}
	note("latency", status, fmt.Sprintf("the database answers in %v", c.Latency.Round(10*time.Microsecond)), hint)
	status, hint = "ok", ""
	if c.OldestTransaction > oldTransaction {
		status, hint = "warn", "end it (pg_stat_activity shows it): while it is open nothing that was deleted since is cleaned up"
	}
	note("database", status, fmt.Sprintf("the oldest transaction is open for %v", c.OldestTransaction.Round(time.Second)), hint)
	if c.Nodes < 0 {
		note("queue", "skip", "the database has no schema yet", "serve makes it at its first start, or postrider migrate up")
		return
	}
	vacuumed := "was never cleaned up"
	if c.QueueVacuumed >= 0 {
		vacuumed = fmt.Sprintf("was cleaned up %v ago", c.QueueVacuumed.Round(time.Second))
	}
	status, hint = "ok", ""
	if c.QueueDead > deadRows {
		status, hint = "warn", "is autovacuum on, and does an old transaction hold it up?"
	}
	note("queue", status, fmt.Sprintf("it %s and has %d dead rows", vacuumed, c.QueueDead), hint)
}

func nodesAlive(n int) string {
	switch {
	case n < 0:
		return "no schema yet"
	case n == 1:
		return "one node is alive"
	}
	return fmt.Sprintf("%d nodes are alive", n)
}
