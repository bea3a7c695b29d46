package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// trace collects what happens, in order; what is concurrent is sorted by the
// tests that have any.
type trace struct {
	mu    sync.Mutex
	lines []string
}

func (t *trace) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

// take returns the lines and begins anew.
func (t *trace) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	t.lines = nil
	return lines
}

func (t *trace) step(name string, err error, needs ...string) Step {
	return Step{
		Name: name, Needs: needs,
		Do:   func(context.Context) error { t.add("do %s", name); return err },
		Undo: func(context.Context) error { t.add("undo %s", name); return nil },
	}
}

func (t *trace) save(p Progress) error {
	var marks []string
	for _, m := range p {
		mark := m.Step
		if m.Done {
			mark += "!"
		}
		marks = append(marks, mark)
	}
	t.add("save %s", strings.Join(marks, " "))
	return nil
}

func expect(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestDo(t *testing.T) {
	var tr trace
	r := Runner{Hook: func(point string) { tr.add("hook %s", point) }, Observe: func(p string, _ time.Duration) { tr.add("took %s", p) }}
	skipped := tr.step("skipped", nil)
	skipped.Skip = true
	plan := Plan{Operation: "Op", Groups: [][]Step{{tr.step("a", nil)}, {skipped}, {tr.step("b", nil), {Name: "only-undo"}}}}
	p, err := r.Do(context.Background(), plan, tr.save, tr.save)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, tr.take(), []string{
		"save a", "hook Op/a/intent", "do a", "took Op/a", "hook Op/a/done",
		"save a! b only-undo", "hook Op/b/intent", "do b", "took Op/b", "hook Op/b/done",
		"hook Op/commit/intent", "save a! b! only-undo!", "hook Op/commit/done",
	})
	expect(t, p.Names(), []string{"a", "b", "only-undo"})
	if !p.Has("b") || p.Has("skipped") {
		t.Error("Has is wrong")
	}
	expect(t, plan.Points(), []string{
		"Op/a/intent", "Op/a/done", "Op/skipped/intent", "Op/skipped/done", "Op/b/intent", "Op/b/done",
		"Op/commit/intent", "Op/commit/done",
	})
	expect(t, plan.UndoPoints("Un", func(s string) bool { return s != "skipped" }), []string{
		"Un/b/intent", "Un/b/done", "Un/a/intent", "Un/a/done",
	})
}

func TestDoFails(t *testing.T) {
	var tr trace
	var r Runner
	boom := errors.New("boom")
	plan := Plan{Groups: [][]Step{{tr.step("a", nil)}, {tr.step("b", boom)}, {tr.step("c", nil)}}}
	p, err := r.Do(context.Background(), plan, tr.save, tr.save)
	if !errors.Is(err, boom) {
		t.Fatalf("error %v", err)
	}
	expect(t, tr.take(), []string{"save a", "do a", "save a! b", "do b"})
	left, err := r.Undo(context.Background(), "", plan, p, nil)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, error %v", left, err)
	}
	expect(t, tr.take(), []string{"undo b", "undo a"})
}

// One failure cancels the rest of its group, and Do returns when all have.
func TestGroupFails(t *testing.T) {
	var r Runner
	boom := errors.New("boom")
	returned := false
	slow := Step{Name: "slow", Do: func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(10 * time.Millisecond)
		returned = true
		return ctx.Err()
	}}
	plan := Plan{Groups: [][]Step{{slow, {Name: "bad", Do: func(context.Context) error { return boom }}}}}
	none := func(Progress) error { return nil }
	p, err := r.Do(context.Background(), plan, none, none)
	if !errors.Is(err, boom) || !returned {
		t.Errorf("error %v, returned %v", err, returned)
	}
	expect(t, p.Names(), []string{"slow", "bad"})
}

// What was not saved was not begun.
func TestSaveFails(t *testing.T) {
	var tr trace
	var r Runner
	full := errors.New("disk full")
	saves := 0
	save := func(p Progress) error {
		if saves++; saves == 2 {
			return full
		}
		return tr.save(p)
	}
	plan := Plan{Groups: [][]Step{{tr.step("a", nil)}, {tr.step("b", nil)}}}
	p, err := r.Do(context.Background(), plan, save, save)
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	expect(t, p.Names(), []string{"a"})
	expect(t, tr.take(), []string{"save a", "do a"})
	commit := func(Progress) error { return full }
	if p, err = r.Do(context.Background(), plan, tr.save, commit); !errors.Is(err, full) || len(p) != 2 {
		t.Errorf("commit: %v %v", p, err)
	}
}

func TestDoCancelled(t *testing.T) {
	var tr trace
	var r Runner
	ctx, cancel := context.WithCancel(context.Background())
	plan := Plan{Groups: [][]Step{{{Name: "a", Do: func(context.Context) error { cancel(); return nil }}}, {tr.step("b", nil)}}}
	p, err := r.Do(ctx, plan, tr.save, tr.save)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	expect(t, p.Names(), []string{"a"})
	expect(t, tr.take(), []string{"save a"})
}

// An undo that fails holds what it needs and nothing else.
func TestUndoFails(t *testing.T) {
	var tr trace
	r := Runner{Hook: func(point string) { tr.add("hook %s", point) }}
	boom := errors.New("boom")
	bad := tr.step("bad", nil, "base")
	bad.Undo = func(context.Context) error { return boom }
	plan := Plan{Groups: [][]Step{{tr.step("base", nil)}, {tr.step("free", nil)}, {bad}}}
	p := Progress{{"base", true}, {"free", true}, {"bad", false}}
	left, err := r.Undo(context.Background(), "Stop", plan, p, nil)
	if !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	expect(t, left.Names(), []string{"base", "bad"})
	expect(t, tr.take(), []string{
		"hook Stop/bad/intent", "hook Stop/free/intent", "undo free", "hook Stop/free/done",
	})
	plan.Groups[2][0] = tr.step("bad", nil, "base")
	if left, err = r.Undo(context.Background(), "", plan, left, nil); err != nil || len(left) != 0 {
		t.Errorf("again: left %v, error %v", left, err)
	}
	expect(t, tr.take(), []string{"undo bad", "undo base"})
}

// Steps of one group that need each other are undone in that order.
func TestUndoInsideAGroup(t *testing.T) {
	var tr trace
	var r Runner
	plan := Plan{Groups: [][]Step{{tr.step("base", nil), tr.step("top", nil, "base")}}}
	left, err := r.Undo(context.Background(), "", plan, Progress{{"base", true}, {"top", true}}, nil)
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, error %v", left, err)
	}
	expect(t, tr.take(), []string{"undo top", "undo base"})
}

// A step that fails is not tried again in the same walk.
func TestUndoOnceInAGroup(t *testing.T) {
	var r Runner
	tries := 0
	bad := Step{Name: "bad", Undo: func(context.Context) error { tries++; return errors.New("boom") }}
	var tr trace
	plan := Plan{Groups: [][]Step{{bad, tr.step("base", nil), tr.step("top", nil, "base")}}}
	left, err := r.Undo(context.Background(), "", plan, Progress{{"bad", true}, {"base", true}, {"top", true}}, nil)
	if err == nil || tries != 1 {
		t.Errorf("error %v after %d tries", err, tries)
	}
	expect(t, left.Names(), []string{"bad"})
}

func TestUndoOnly(t *testing.T) {
	var tr trace
	var r Runner
	plan := Plan{Groups: [][]Step{{tr.step("keep", nil)}, {tr.step("go", nil)}, {tr.step("never", nil)}}}
	p := Progress{{"keep", true}, {"go", true}}
	left, err := r.Undo(context.Background(), "", plan, p, func(s string) bool { return s != "keep" })
	if err != nil {
		t.Error(err)
	}
	expect(t, left.Names(), []string{"keep"})
	expect(t, tr.take(), []string{"undo go"})
}

// A caller's dead context stops no undo, and an undo that hangs stops nothing.
func TestUndoHasItsOwnDeadline(t *testing.T) {
	var r Runner
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	release := make(chan struct{})
	defer close(release)
	alive := false
	plan := Plan{Groups: [][]Step{
		{{Name: "alive", Undo: func(ctx context.Context) error { alive = ctx.Err() == nil; return nil }}},
		{{Name: "hung", UndoLimit: time.Millisecond, Undo: func(context.Context) error { <-release; return nil }}},
	}}
	left, err := r.Undo(dead, "", plan, Progress{{"alive", true}, {"hung", true}}, nil)
	if err == nil || !strings.Contains(err.Error(), "hung") || !alive {
		t.Errorf("error %v, alive %v", err, alive)
	}
	expect(t, left.Names(), []string{"hung"})
}
