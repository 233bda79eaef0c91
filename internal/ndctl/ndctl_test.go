package ndctl

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

func TestErrorKeepsErrnoAndDevice(t *testing.T) {
	err := check("set_size", "namespace0.0", -int(syscall.EBUSY))
	assert.EqualError(t, err, "namespace0.0: set_size: device or resource busy")
	assert.ErrorIs(t, err, syscall.EBUSY)
	var e *Error
	assert.True(t, errors.As(err, &e))
	assert.Equal(t, "namespace0.0", e.Dev)
	assert.ErrorIs(t, check("enable", "region0", -int(syscall.ENOENT)), fs.ErrNotExist)
	assert.NoError(t, check("init_labels", "nmem0", 5), "a count is no error")
}

func TestDevicesAreSortedByTheirNumbers(t *testing.T) {
	names := []string{"namespace10.0", "namespace2.10", "namespace2.9", "namespace2.0", "pmem1", "pmem0.10", "pmem0.2", "pmem0"}
	slices.SortFunc(names, compareDevs)
	assert.Equal(t, []string{"namespace2.0", "namespace2.9", "namespace2.10", "namespace10.0", "pmem0", "pmem0.2", "pmem0.10", "pmem1"}, names)
}

func TestMappingsAreSortedByPosition(t *testing.T) {
	s := pmem.System{Regions: []pmem.Region{{Mappings: []pmem.Mapping{{DIMM: "nmem3", Position: 1}, {DIMM: "nmem5", Position: 0}}}}}
	sortSystem(&s)
	assert.Equal(t, "nmem5", s.Regions[0].Mappings[0].DIMM)
}
