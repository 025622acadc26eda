package loop

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// ErrNoWay says that there was none to try.
var ErrNoWay = errors.New("loop: no way to try")

// Race tries one way after the other, the next one as soon as one has failed or the
// last has not answered for stagger (RFC 8305), each once and at most most of them. The
// first that leads to where it should wins; drop gets one that comes too late. try may
// name further ways, which are next. It returns when every attempt has ended.
func Race[W comparable, T any](ctx context.Context, ways []W, most int, stagger time.Duration,
	try func(context.Context, W) (T, []W, error), drop func(T)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &race[W, T]{ways: ways, left: most, tried: make(map[W]bool), ended: make(chan attempt[W, T])}
	defer r.drain(drop)
	defer cancel()
	for errs := []error(nil); ; {
		r.start(ctx, try)
		if r.running == 0 {
			var none T
			return none, cmp.Or(errors.Join(errs...), ctx.Err(), ErrNoWay)
		}
		select {
		case a := <-r.ended:
			r.running--
			if a.err == nil {
				return a.to, nil
			}
			r.ways = append(a.more, r.ways...)
			errs = append(errs, a.err)
		case <-r.next(stagger):
		}
	}
}

// race is one search. It belongs to the goroutine that runs it.
type race[W comparable, T any] struct {
	ways          []W
	left, running int
	tried         map[W]bool
	ended         chan attempt[W, T]
}

type attempt[W comparable, T any] struct {
	to   T
	more []W
	err  error
}

// start begins the next attempt, if there is one.
func (r *race[W, T]) start(ctx context.Context, try func(context.Context, W) (T, []W, error)) {
	for len(r.ways) > 0 && r.tried[r.ways[0]] {
		r.ways = r.ways[1:]
	}
	if len(r.ways) == 0 || r.left == 0 || ctx.Err() != nil {
		return
	}
	way := r.ways[0]
	r.ways, r.tried[way], r.left, r.running = r.ways[1:], true, r.left-1, r.running+1
	go func() {
		to, more, err := try(ctx, way)
		r.ended <- attempt[W, T]{to, more, err}
	}()
}

// next tells when the next attempt is due though none has ended; never without one.
func (r *race[W, T]) next(stagger time.Duration) <-chan time.Time {
	if len(r.ways) == 0 || r.left == 0 {
		return nil
	}
	return time.After(stagger)
}

// drain waits for the attempts that are under way.
func (r *race[W, T]) drain(drop func(T)) {
	for ; r.running > 0; r.running-- {
		if late := <-r.ended; late.err == nil {
			drop(late.to)
		}
	}
}
