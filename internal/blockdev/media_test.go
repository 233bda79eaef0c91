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
	tried := 0
	for offset := uint64(0); offset < 1<<30; offset += 1 << 20 {
		assert.NoError(t, e.pages(offset, 1<<20, func(uint64, uint64) error { tried++; return unix.EIO }))
	}
	assert.EqualValues(t, 1<<30, e.Bytes)
	assert.Less(t, tried, 2000, "where much cannot be written, it is not tried page by page")
	e = MediaError{}
	assert.ErrorIs(t, e.pages(0, 1<<20, func(uint64, uint64) error { return unix.ENXIO }), unix.ENXIO)
}
