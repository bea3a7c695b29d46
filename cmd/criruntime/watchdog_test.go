package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdog: systemd hears of a daemon that answers in time, and of no other.
func TestWatchdog(t *testing.T) {
	for name, test := range map[string]struct {
		check func(context.Context) error
		alive bool
	}{
		"answers": {answerIn(5 * time.Second), true},
		"refuses": {func(context.Context) error { return errors.New("no answer") }, false},
		"hangs":   {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			log := captureLog(t)
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				begin, last := time.Now(), time.Time{}
				var told atomic.Int32
				go watchdog(ctx, 30*time.Second, test.check, func() {
					if gap := time.Since(last); told.Load() > 0 && gap > 20*time.Second {
						t.Errorf("%v have passed since the last word", gap)
					}
					last = time.Now()
					told.Add(1)
				})
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := told.Load() > 0; got != test.alive || got && last.Sub(begin) < 45*time.Second {
					t.Errorf("told %d times", told.Load())
				}
				stop()
				synctest.Wait()
			})
			if strings.Contains(log.String(), "is not told") == test.alive {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func answerIn(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
