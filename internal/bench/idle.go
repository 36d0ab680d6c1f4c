package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// starts is how often an empty store is started on; the time told is the
// median.
const starts = 5

// idle measures what the server costs when there is nothing to do.
func idle(ctx context.Context, s *stage) error {
	info, err := os.Stat(s.o.Executable)
	if err != nil {
		return fmt.Errorf("look at the executable: %w", err)
	}
	ready := []time.Duration{s.server.ready}
	for len(ready) < starts {
		dir, err := os.MkdirTemp(s.o.Dir, "postrider-bench-")
		if err != nil {
			return fmt.Errorf("make a data directory: %w", err)
		}
		s.closing = append(s.closing, func() { os.RemoveAll(dir) }) //nolint:errcheck // in the place for temporary files
		again, err := start(ctx, s.o, dir, s.server.key)
		if err != nil {
			return err
		}
		ready = append(ready, again.ready)
		again.kill()
	}
	slices.Sort(ready)
	if err := rest(ctx); err != nil {
		return err
	}
	readyMS, binary := milliseconds(ready[len(ready)/2]), float64(info.Size())/(1<<20)
	s.result.Ready, s.result.Binary = &readyMS, &binary
	if resident, ok := s.server.memory("VmRSS"); ok {
		s.result.IdleRSS = &resident
	}
	return nil
}

// Machine is what the figures depend on beside the server.
type Machine struct {
	CPUs     int          `json:"cpus"`
	Go       string       `json:"go"`
	Sync     *Percentiles `json:"fsync_ms"` // 4 KiB written and synced, in the data directory's file system
	Volatile bool         `json:"volatile,omitempty"`
}

// tmpfs is the magic number of a file system that is in memory.
const tmpfs = 0x01021994

// look measures the machine.
func look(dir string) (m Machine, err error) {
	m = thisMachine()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return m, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	m.Volatile = fs.Type == tmpfs
	m.Sync, err = measureSync(dir)
	return m, err
}

// measureSync tells what a commit costs at the least.
func measureSync(dir string) (p *Percentiles, err error) {
	file, err := os.CreateTemp(dir, "postrider-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a file to sync: %w", err)
	}
	defer func() {
		if closed := file.Close(); err == nil {
			err = closed
		}
		if removed := os.Remove(file.Name()); err == nil {
			err = removed
		}
	}()
	var h histogram
	page := make([]byte, 4096)
	for range 100 {
		began := time.Now()
		if _, err := file.Write(page); err != nil {
			return nil, fmt.Errorf("write a page: %w", err)
		}
		if err := file.Sync(); err != nil {
			return nil, fmt.Errorf("sync a page: %w", err)
		}
		h.record(time.Since(began))
	}
	return h.percentiles(), nil
}
