package blockdev

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestMediaErrorPages(t *testing.T) {
	written := map[uint64]uint64{}
	write := func(offset, length uint64) error {
		if offset == 8192 || offset == 16384 {
			return unix.EIO
		}
		written[offset] = length
		return nil
	}
	e := MediaError{Path: "/dev/pmem0"}
	assert.NoError(t, e.pages(4096, 20000, write))
	assert.Equal(t, map[uint64]uint64{4096: 4096, 12288: 4096, 20480: 3616}, written)
	assert.EqualValues(t, 8192, e.First)
	assert.EqualValues(t, 8192, e.Bytes)
	assert.ErrorIs(t, &e, unix.EIO)

	e = MediaError{}
	assert.ErrorIs(t, e.pages(0, 1<<30, func(uint64, uint64) error { return unix.EIO }), unix.EIO, "a device that takes nothing is given up")
	assert.ErrorIs(t, e.pages(0, 1<<20, func(uint64, uint64) error { return unix.ENXIO }), unix.ENXIO)
}
