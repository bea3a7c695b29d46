package image

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestFlightIsSharedAndClaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs, claims, unclaimed atomic.Int32
		f := flights[int]{unclaimed: func(int) { unclaimed.Add(1) }}
		release := make(chan struct{})
		run := func(context.Context) (int, error) {
			runs.Add(1)
			<-release
			return 7, nil
		}
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				v, err := f.do(t.Context(), "k", run, func(int) {
					if unclaimed.Load() > 0 {
						t.Error("claimed after the result was given up")
					}
					claims.Add(1)
				})
				if v != 7 || err != nil {
					t.Errorf("%d, %v", v, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if runs.Load() != 1 || claims.Load() != 5 || unclaimed.Load() != 1 || !f.idle() {
			t.Errorf("%d runs, %d claims, given up %d times", runs.Load(), claims.Load(), unclaimed.Load())
		}
	})
}

func TestFlightEndsWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var unclaimed atomic.Int32
		f := flights[int]{unclaimed: func(int) { unclaimed.Add(1) }}
		ended := make(chan struct{})
		run := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			close(ended)
			return 1, nil // it came just too late
		}
		one, leaveOne := context.WithCancel(t.Context())
		two, leaveTwo := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for _, ctx := range []context.Context{one, two} {
			go func() {
				_, err := f.do(ctx, "k", run, nil)
				errs <- err
			}()
		}
		synctest.Wait()
		leaveOne()
		synctest.Wait()
		select {
		case <-ended:
			t.Fatal("ended with its first waiter")
		default:
		}
		leaveTwo()
		<-ended
		synctest.Wait()
		if a, b := <-errs, <-errs; !errors.Is(a, context.Canceled) || !errors.Is(b, context.Canceled) {
			t.Errorf("errors %v, %v", a, b)
		}
		if unclaimed.Load() != 1 {
			t.Errorf("given up %d times", unclaimed.Load())
		}
	})
}

func TestFlightFailure(t *testing.T) {
	f := flights[int]{unclaimed: func(int) { t.Error("a failure has no result") }}
	broken := errors.New("broken")
	if _, err := f.do(t.Context(), "k", func(context.Context) (int, error) { return 0, broken }, nil); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	f.close()
}
