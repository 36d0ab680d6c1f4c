package app

import (
	"context"
	"time"
)

// historyPause lies between two looks for history that has become too old. What
// a look finds is then little.
const historyPause = 10 * time.Minute

// A forgetful store drops its history when it is told to; others do so by
// themselves.
type forgetful interface {
	DropHistory(ctx context.Context, olderThan time.Duration) error
}

// dropHistory removes what is older than the retention, from the start on and
// now and then.
func (a *app) dropHistory(ctx context.Context) error {
	store, ok := a.store.(forgetful)
	if !ok || a.config.Retention == 0 || a.shared != nil { // one of several nodes does it for all
		return nil
	}
	pause := time.NewTicker(historyPause)
	defer pause.Stop()
	for {
		began := time.Now()
		switch err := store.DropHistory(ctx, a.config.Retention); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			a.logger.Error("old history is not dropped", "error", err)
		default:
			a.logger.Debug("dropped old history", "duration", time.Since(began))
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return nil
		}
	}
}
