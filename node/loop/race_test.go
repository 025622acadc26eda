package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const stagger = 200 * time.Millisecond

// place is what a way of a test leads to.
type place struct {
	takes time.Duration
	more  []int
	leads bool
}

var errNowhere = errors.New("nowhere")

// raced runs a search over a map of ways and notes the order in which they are tried.
func raced(ways []int, most int, places map[int]place) (won int, tried, late []int, took time.Duration, err error) {
	began := time.Now()
	var mu sync.Mutex
	try := func(ctx context.Context, way int) (int, []int, error) {
		mu.Lock()
		tried = append(tried, way)
		mu.Unlock()
		p := places[way]
		select {
		case <-time.After(p.takes):
		case <-ctx.Done():
			if !p.leads {
				return 0, nil, ctx.Err()
			}
		}
		if !p.leads {
			return 0, p.more, fmt.Errorf("%d: %w", way, errNowhere)
		}
		return way, nil, nil
	}
	won, err = Race(context.Background(), ways, most, stagger, try, func(way int) { late = append(late, way) })
	return won, tried, late, time.Since(began), err
}

func TestRace(t *testing.T) {
	const dead = time.Hour
	for name, c := range map[string]struct {
		ways   []int
		most   int
		places map[int]place
		won    int
		tried  []int
		took   time.Duration
	}{
		"the first":              {[]int{1, 2}, 9, map[int]place{1: {leads: true}}, 1, []int{1}, 0},
		"behind a dead one":      {[]int{1, 2}, 9, map[int]place{1: {takes: dead}, 2: {leads: true}}, 2, []int{1, 2}, stagger},
		"behind two dead ones":   {[]int{1, 2, 3}, 9, map[int]place{1: {takes: dead}, 2: {takes: dead}, 3: {leads: true}}, 3, []int{1, 2, 3}, 2 * stagger},
		"at once after a no":     {[]int{1, 2}, 9, map[int]place{1: {}, 2: {leads: true}}, 2, []int{1, 2}, 0},
		"where another sends":    {[]int{1, 2}, 9, map[int]place{1: {more: []int{7}}, 7: {leads: true}}, 7, []int{1, 7}, 0},
		"each once":              {[]int{1, 1, 2}, 9, map[int]place{1: {more: []int{1}}, 2: {leads: true}}, 2, []int{1, 2}, 0},
		"slower than the next":   {[]int{1, 2}, 9, map[int]place{1: {takes: 2 * stagger, leads: true}, 2: {takes: dead}}, 1, []int{1, 2}, 2 * stagger},
		"no more than it may":    {[]int{1, 2, 3}, 2, map[int]place{1: {}, 2: {}, 3: {leads: true}}, 0, []int{1, 2}, 0},
		"nobody":                 {[]int{1, 2}, 9, map[int]place{1: {}, 2: {takes: time.Second}}, 0, []int{1, 2}, time.Second},
		"no way":                 {nil, 9, nil, 0, nil, 0},
		"a redirect of the last": {[]int{1}, 9, map[int]place{1: {takes: time.Second, more: []int{2}}, 2: {leads: true}}, 2, []int{1, 2}, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			won, tried, _, took, err := raced(c.ways, c.most, c.places)
			if won != c.won || !slices.Equal(tried, c.tried) || took != c.took {
				t.Errorf("%s: %d after %v by %v, %v", name, won, took, tried, err)
			}
			if c.won == 0 && c.ways != nil && !errors.Is(err, errNowhere) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// TestRaceDropsTheLate: an attempt that succeeds when another has won is given back, and
// an end of the context ends them all.
func TestRaceDropsTheLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		won, _, late, _, err := raced([]int{1, 2}, 9, map[int]place{1: {takes: time.Hour, leads: true}, 2: {leads: true}})
		if won != 2 || !slices.Equal(late, []int{1}) || err != nil {
			t.Errorf("%d won, %v were late: %v", won, late, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wait := func(ctx context.Context, _ int) (int, []int, error) { <-ctx.Done(); return 0, nil, ctx.Err() }
		if _, err := Race(ctx, []int{1, 2, 3}, 9, stagger, wait, func(int) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("its context ended: %v", err)
		}
	})
}

// TestRaceThatTriesNothing: nobody won, so there is an error, or the caller would go on
// with nothing in hand.
func TestRaceThatTriesNothing(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	try := func(context.Context, int) (int, []int, error) { return 1, nil, nil }
	if _, err := Race(over, []int{1}, 9, stagger, try, func(int) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("its context had ended: %v", err)
	}
	if _, err := Race(t.Context(), nil, 9, stagger, try, func(int) {}); !errors.Is(err, ErrNoWay) {
		t.Errorf("no way: %v", err)
	}
}
