package blockdev

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// crewOf runs a crew over chunks whose duration depends on the number of workers, and returns the
// maximum number of workers and whether each chunk was done once.
func crewOf(t *testing.T, chunks uint64, limit func() int, takes func(atWork int) time.Duration) (most int) {
	t.Helper()
	var mu sync.Mutex
	var atWork int
	done := map[uint64]int{}
	var last uint64
	require.NoError(t, work(t.Context(), 10, 10+chunks*4-1, 4, 2, limit, func(n, total uint64) {
		assert.Greater(t, n, last)
		assert.Equal(t, chunks*4-1, total)
		last = n
	}, func(offset, length uint64, buffer []byte) error {
		mu.Lock()
		atWork++
		most = max(most, atWork)
		done[offset]++
		wait := takes(atWork)
		mu.Unlock()
		assert.Len(t, buffer, 2)
		time.Sleep(wait)
		mu.Lock()
		atWork--
		mu.Unlock()
		return nil
	}))
	assert.Len(t, done, int(chunks))
	for offset, n := range done {
		assert.Equal(t, 1, n, offset)
	}
	assert.Equal(t, chunks*4-1, last)
	return most
}

func TestCrew(t *testing.T) {
	t.Run("each helps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			assert.Equal(t, mostWorkers(), crewOf(t, 5000, nil, func(int) time.Duration { return 10 * time.Millisecond }))
		})
	})
	t.Run("two help", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			most := crewOf(t, 5000, nil, func(n int) time.Duration { return time.Duration(max(n, 2)) * 10 * time.Millisecond })
			assert.LessOrEqual(t, most, 4)
			assert.GreaterOrEqual(t, most, 2)
		})
	})
	t.Run("limited", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			assert.Equal(t, 1, crewOf(t, 200, func() int { return 1 }, func(int) time.Duration { return 10 * time.Millisecond }))
		})
	})
	t.Run("limited later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			begun, late := time.Now(), 0
			limit := func() int {
				if time.Since(begun) > 5*time.Second {
					return 1
				}
				return 0
			}
			crewOf(t, 5000, limit, func(n int) time.Duration {
				if time.Since(begun) > 6*time.Second {
					late = max(late, n)
				}
				return 10 * time.Millisecond
			})
			assert.Equal(t, 1, late)
		})
	})
}

func TestCrewStops(t *testing.T) {
	failed := errors.New("no")
	var n atomic.Int64
	err := work(t.Context(), 0, 1000, 1, 0, nil, nil, func(offset, _ uint64, _ []byte) error {
		if n.Add(1); offset == 3 {
			return failed
		}
		return nil
	})
	assert.ErrorIs(t, err, failed)
	assert.Less(t, n.Load(), int64(100))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, work(ctx, 0, 10, 1, 0, nil, nil, func(uint64, uint64, []byte) error { t.Error("no work"); return nil }), context.Canceled)
	assert.NoError(t, work(t.Context(), 5, 5, 1, 0, nil, nil, func(uint64, uint64, []byte) error { t.Error("no work"); return nil }))
}
