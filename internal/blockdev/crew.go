package blockdev

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A crew does the chunks of a range. How many workers help depends on the memory: whether
// one processor fills its bandwidth, how many DIMMs are interleaved, what a page of it costs
// the first time. So it is measured as it goes: one worker is added as long as the last one
// made it faster.

const (
	// A window is what is measured before a worker is added: long enough for a rate, short
	// beside the whole, and a few chunks of each.
	windowTime   = 50 * time.Millisecond
	windowChunks = 4
	// gain is how much faster the last worker must have made it.
	gain = 1.05
)

// firstWorkers are there from the beginning: what one processor writes fills no memory.
const firstWorkers = 2

// mostWorkers is more than there are processors: a write may wait for more than those.
func mostWorkers() int { return min(max(4, 2*runtime.GOMAXPROCS(0)), 32) }

// crew is the state of one range that is being done.
type crew struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	next   atomic.Uint64
	to     uint64
	size   uint64 // of a chunk
	total  uint64
	do     func(offset, length uint64, buffer []byte) error
	buffer uint64 // of each worker, in bytes

	mu       sync.Mutex
	done     uint64
	progress Progress
	limit    func() int // the most workers now
	workers  sync.WaitGroup
	count    int
	settled  bool // one more does not help
	lastRate float64
	windowAt time.Time
	window   uint64 // bytes done in it
	chunks   int    // done in it
}

// work does a range, chunk by chunk, until the first error. A limit of nil is as many workers
// as help.
func work(ctx context.Context, from, to, size, buffer uint64, limit func() int, progress Progress, do func(offset, length uint64, buffer []byte) error) error {
	c := crew{to: to, size: size, total: to - from, do: do, buffer: buffer, progress: progress, limit: limit, windowAt: time.Now()}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	defer c.cancel(nil)
	c.next.Store(from)
	c.mu.Lock()
	for range min(firstWorkers, c.most()) {
		c.add()
	}
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

// stays reports whether a worker goes on: it does not when there are more than may be.
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

// finished counts a chunk, and adds a worker when that may help.
func (c *crew) finished(length uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += length
	if c.progress != nil {
		c.progress(c.done, c.total)
	}
	if c.most() == 1 { // it may have been made to wait
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
