// Package steps runs an operation as an ordered list of named steps, each with
// a do and an undo, so that a crash or a failure at any point leaves a record
// from which the rest can be undone. The intent of a step is saved before its
// do, the finished step with the next save; rolling back, and stopping or
// removing later, is the same list walked backwards over everything intended.
//
// The package decides nothing and stores nothing: what a step does, and where
// progress is saved, is its caller's.
package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// DefaultUndoLimit is how long one undo may take if its step says nothing.
const DefaultUndoLimit = 15 * time.Second

// Commit is the name of the last point of every operation: the save that makes
// its result visible.
const Commit = "commit"

// Hook is called with "<operation>/<step>/<stage>" at every point at which an
// operation's progress changes. The stage "intent" comes after the intent was
// saved and before the act, "done" after the act and before it is saved as
// done. Steps of one group call it concurrently. A crash test ends the process
// in it.
type Hook func(point string)

// Step is one step of a plan.
type Step struct {
	// Name is unique in the plan and stable across versions: records hold it.
	Name string
	// Needs names steps of this or earlier groups that must outlast this one:
	// they are not undone while this one is not.
	Needs []string
	// Skip leaves the step out of this run.
	Skip bool
	// UndoLimit bounds one undo; 0 means DefaultUndoLimit.
	UndoLimit time.Duration
	// Do acts. When its context ends it gives up soon, and it has returned
	// before anything is undone. Nil does nothing.
	Do func(context.Context) error
	// Undo takes back whatever Do did or half did. It is idempotent, and no
	// error where there is nothing to undo. Nil means there never is.
	Undo func(context.Context) error
}

// Plan is an operation's steps. Groups run one after the other, the steps of a
// group at the same time.
type Plan struct {
	Operation string
	Groups    [][]Step
}

// Mark is a step that was intended, and whether it was finished.
type Mark struct {
	Step string `json:"step"`
	Done bool   `json:"done,omitempty"`
}

// Progress are the steps intended so far, in order. Values are not changed
// once they were handed out.
type Progress []Mark

// Has reports whether the step was intended.
func (p Progress) Has(step string) bool {
	return slices.ContainsFunc(p, func(m Mark) bool { return m.Step == step })
}

// Names are the steps intended.
func (p Progress) Names() []string {
	names := make([]string, len(p))
	for i, m := range p {
		names[i] = m.Step
	}
	return names
}

// Save makes progress durable before it returns. On an error nothing was saved.
type Save func(Progress) error

// Runner runs plans. The zero value works.
type Runner struct {
	// Hook may be nil.
	Hook Hook
	// Observe, if set, gets the duration of every step, named
	// "<operation>/<step>". It is called concurrently.
	Observe func(phase string, d time.Duration)
	// Trace, if set, is told of the begin of every step that Do runs, named
	// likewise, and returns what the step goes on with; end is called with how it
	// has ended. It is called concurrently.
	Trace func(ctx context.Context, phase string) (traced context.Context, end func(error))
}

// Do runs the plan: for each group it saves the intents together with what is
// done so far, acts, and goes on; the last save is commit's. On an error it
// returns what was intended, for Undo, once every step under way has returned.
func (r Runner) Do(ctx context.Context, plan Plan, save, commit Save) (Progress, error) {
	var progress Progress
	for _, group := range plan.Groups {
		todo := active(group)
		if len(todo) == 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return progress, err
		}
		first := len(progress)
		intended := slices.Clone(progress)
		for _, s := range todo {
			intended = append(intended, Mark{Step: s.Name})
		}
		if err := save(slices.Clone(intended)); err != nil {
			return progress, err
		}
		progress = intended
		if err := r.act(ctx, plan.Operation, todo, progress[first:]); err != nil {
			return progress, err
		}
	}
	if err := ctx.Err(); err != nil {
		return progress, err
	}
	r.hook(plan.Operation, Commit, "intent")
	if err := commit(slices.Clone(progress)); err != nil {
		return progress, err
	}
	r.hook(plan.Operation, Commit, "done")
	return progress, nil
}

// act runs one group and marks what it finished.
func (r Runner) act(ctx context.Context, operation string, group []Step, marks []Mark) error {
	if len(group) == 1 {
		err := r.one(ctx, operation, group[0])
		marks[0].Done = err == nil
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(group))
	var wg sync.WaitGroup
	var first error
	var once sync.Once
	for i, s := range group {
		wg.Go(func() {
			if errs[i] = r.one(ctx, operation, s); errs[i] != nil {
				once.Do(func() { first = errs[i] })
				cancel()
				return
			}
			marks[i].Done = true
		})
	}
	wg.Wait()
	return first
}

func (r Runner) one(ctx context.Context, operation string, s Step) error {
	if s.Do == nil {
		return nil
	}
	r.hook(operation, s.Name, "intent")
	begin := time.Now()
	if err := r.traced(ctx, operation, s); err != nil {
		return err
	}
	if r.Observe != nil {
		r.Observe(operation+"/"+s.Name, time.Since(begin))
	}
	r.hook(operation, s.Name, "done")
	return nil
}

func (r Runner) traced(ctx context.Context, operation string, s Step) (err error) {
	if r.Trace != nil {
		traced, end := r.Trace(ctx, operation+"/"+s.Name)
		ctx = traced
		defer func() { end(err) }()
	}
	return s.Do(ctx)
}

// Undo walks the plan backwards over what was intended and undoes the steps
// that only selects (nil: all). Each undo has its own deadline, whatever has
// become of ctx; one that fails does not stop the others, but holds what it
// needs. It returns what remains intended, and the joined errors. A rollback
// passes no operation and calls no hook.
func (r Runner) Undo(ctx context.Context, operation string, plan Plan, p Progress, only func(step string) bool) (Progress, error) {
	u := undoing{runner: r, operation: operation, plan: plan, left: map[string]bool{}}
	for _, m := range p {
		u.left[m.Step] = true
	}
	for _, group := range slices.Backward(plan.Groups) {
		u.group(context.WithoutCancel(ctx), group, only)
	}
	var remaining Progress
	for _, m := range p {
		if u.left[m.Step] {
			remaining = append(remaining, m)
		}
	}
	return remaining, errors.Join(u.errs...)
}

type undoing struct {
	runner    Runner
	operation string
	plan      Plan

	mu   sync.Mutex
	left map[string]bool
	errs []error
}

// group undoes steps of a group, each once, in rounds: steps may need each
// other, and what is held in one round may be free in the next.
func (u *undoing) group(ctx context.Context, group []Step, only func(step string) bool) {
	tried := map[string]bool{}
	for {
		todo := slices.DeleteFunc(slices.Clone(group), func(s Step) bool {
			return !u.left[s.Name] || tried[s.Name] || u.held(s.Name) || only != nil && !only(s.Name)
		})
		if len(todo) == 0 {
			return
		}
		u.all(ctx, todo)
		for _, s := range todo {
			tried[s.Name] = true
		}
	}
}

// held reports whether a step that needs this one is still to be undone.
// Precondition: no undo is under way.
func (u *undoing) held(name string) bool {
	for _, group := range u.plan.Groups {
		for _, s := range group {
			if u.left[s.Name] && slices.Contains(s.Needs, name) {
				return true
			}
		}
	}
	return false
}

// all undoes steps at the same time.
func (u *undoing) all(ctx context.Context, todo []Step) {
	var wg sync.WaitGroup
	for _, s := range todo {
		wg.Go(func() { u.undo(ctx, s) })
	}
	wg.Wait()
}

func (u *undoing) undo(ctx context.Context, s Step) {
	if s.Undo != nil {
		u.runner.hook(u.operation, s.Name, "intent")
		begin := time.Now()
		err := bounded(ctx, s)
		if u.runner.Observe != nil && u.operation != "" {
			u.runner.Observe(u.operation+"/"+s.Name, time.Since(begin))
		}
		if err != nil {
			u.mu.Lock()
			u.errs = append(u.errs, err)
			u.mu.Unlock()
			return
		}
		u.runner.hook(u.operation, s.Name, "done")
	}
	u.mu.Lock()
	delete(u.left, s.Name)
	u.mu.Unlock()
}

// bounded runs one undo to its deadline. An undo that hangs in the kernel past
// it is left to itself: it only ever takes things away, so its late end does
// no harm to the next attempt.
func bounded(ctx context.Context, s Step) error {
	limit := s.UndoLimit
	if limit == 0 {
		limit = DefaultUndoLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	result := make(chan error, 1)
	go func() {
		defer cancel()
		result <- s.Undo(ctx)
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	// One that heeds its context gets the time to say what it met.
	select {
	case err := <-result:
		return err
	case <-time.After(time.Second):
		return fmt.Errorf("cannot undo step %s: not done after %s", s.Name, limit)
	}
}

func active(group []Step) []Step {
	return slices.DeleteFunc(slices.Clone(group), func(s Step) bool { return s.Skip })
}

func (r Runner) hook(operation, step, stage string) {
	if r.Hook != nil && operation != "" {
		r.Hook(operation + "/" + step + "/" + stage)
	}
}

// Points are the hook points that Do can pass, in order, with those of steps
// that a particular run skips.
func (p Plan) Points() []string {
	var points []string
	for _, group := range p.Groups {
		for _, s := range group {
			if s.Do != nil {
				points = append(points, p.Operation+"/"+s.Name+"/intent", p.Operation+"/"+s.Name+"/done")
			}
		}
	}
	return append(points, p.Operation+"/"+Commit+"/intent", p.Operation+"/"+Commit+"/done")
}

// UndoPoints are the hook points that Undo can pass under an operation's name.
func (p Plan) UndoPoints(operation string, only func(step string) bool) []string {
	var points []string
	for _, group := range slices.Backward(p.Groups) {
		for _, s := range group {
			if s.Undo != nil && (only == nil || only(s.Name)) {
				points = append(points, operation+"/"+s.Name+"/intent", operation+"/"+s.Name+"/done")
			}
		}
	}
	return points
}
