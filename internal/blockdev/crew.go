package blockdev

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A crew processes the chunks of a range. How many workers help depends on the memory: whether one
// CPU fills its bandwidth, how many DIMMs are interleaved, and how expensive the first access to a
// page is. So the rate is measured: workers are added as long as the last one increased it.

const (
	// A window is measured before a worker is added: it must be long enough for a rate, short
	// compared with the range, and contain a few chunks of each worker.
	windowTime   = 50 * time.Millisecond
	windowChunks = 4
	// gain is the minimum speedup for which another worker is added.
	gain = 1.05
)

// mostWorkers exceeds the number of CPUs, because a write may wait for the medium.
func mostWorkers() int { return min(max(4, 2*runtime.GOMAXPROCS(0)), 32) }

// crew is the state of one range in progress.
type crew struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	next   atomic.Uint64
	to     uint64
	size   uint64 // of a chunk
	total  uint64
	do     func(offset, length uint64, buffer []byte) error
	buffer uint64 // size for each worker, in bytes

	mu       sync.Mutex
	done     uint64
	progress Progress
	limit    func() int // current maximum of workers
	workers  sync.WaitGroup
	count    int
	settled  bool // another worker does not help
	lastRate float64
	windowAt time.Time
	window   uint64 // bytes done in the window
	chunks   int    // chunks done in the window
}

// work processes a range, chunk by chunk, until the first error. A limit of nil is as many workers
// as help.
func work(ctx context.Context, from, to, size, buffer uint64, limit func() int, progress Progress, do func(offset, length uint64, buffer []byte) error) error {
	c := crew{to: to, size: size, total: to - from, do: do, buffer: buffer, progress: progress, limit: limit, windowAt: time.Now()}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	defer c.cancel(nil)
	c.next.Store(from)
	c.mu.Lock()
	c.add()
	c.mu.Unlock()
	c.workers.Wait()
	return context.Cause(c.ctx)
}

// add starts a worker.
func (c *crew) add() {
	c.count++
	c.workers.Go(func() {
		buffer := make([]byte, c.buffer)
		for c.ctx.Err() == nil && c.stays() {
			offset := c.next.Add(c.size) - c.size
			if offset >= c.to {
				return
			}
			length := min(c.size, c.to-offset)
			if err := c.do(offset, length, buffer); err != nil {
				c.cancel(err)
				return
			}
			c.finished(length)
		}
	})
}

func (c *crew) most() int {
	if c.limit != nil {
		if n := c.limit(); n > 0 {
			return n
		}
	}
	return mostWorkers()
}

// stays reports whether a worker continues; it does not if there are more than the limit.
func (c *crew) stays() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count > 1 && c.count > c.most() {
		c.count--
		c.settled, c.lastRate = false, 0
		return false
	}
	return true
}

// finished counts a chunk, and adds a worker if that may help.
func (c *crew) finished(length uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += length
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
	if c.most() == 1 { // its rate may be limited
		c.windowAt, c.window, c.chunks = time.Now(), 0, 0
		return
	}
	c.window += length
	c.chunks++
	took := time.Since(c.windowAt)
	if c.settled || took < windowTime || c.chunks < windowChunks*c.count {
		return
	}
	rate := float64(c.window) / took.Seconds()
	c.windowAt, c.window, c.chunks = time.Now(), 0, 0
	if rate < c.lastRate*gain || c.count >= c.most() {
		c.settled = true
		return
	}
	c.lastRate = rate
	c.add()
}
