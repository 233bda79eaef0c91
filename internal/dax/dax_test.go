package dax

import (
	"encoding/json"
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSortDevices(t *testing.T) {
	devs := []Device{
		{Chardev: "dax10.0", RegionID: 10},
		{Chardev: "dax0.10", RegionID: 0},
		{Chardev: "dax2.1", RegionID: 2},
		{Chardev: "dax0.2", RegionID: 0},
		{Chardev: "dax0.0", RegionID: 0},
	}
	sortDevices(devs)
	var names []string
	for _, d := range devs {
		names = append(names, d.Chardev)
	}
	assert.Equal(t, []string{"dax0.0", "dax0.2", "dax0.10", "dax2.1", "dax10.0"}, names)
}

func TestCheck(t *testing.T) {
	assert.NoError(t, check("online", "dax0.0", 0))
	assert.NoError(t, check("online", "dax0.0", 16), "the number of blocks is no error")

	err := check("disable", "dax0.0", -int(syscall.EBUSY))
	assert.EqualError(t, err, "dax0.0: disable: device or resource busy")
	assert.ErrorIs(t, err, syscall.EBUSY)
	var e *Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "disable", e.Op)
	assert.Equal(t, "dax0.0", e.Dev)

	err = check("disable", "dax0.0", -int(syscall.EOPNOTSUPP))
	assert.ErrorIs(t, err, ErrClassModel)
	assert.ErrorIs(t, err, syscall.EOPNOTSUPP)
}

func TestDeviceJSON(t *testing.T) {
	node, none, all, movable := 1, 0, 15, true
	for _, tc := range []struct {
		dev  Device
		want string
	}{
		{
			Device{Chardev: "dax0.0", Path: "/dev/dax0.0", Size: 1 << 31, Align: 1 << 21, Mode: ModeDevDAX, State: StateEnabled},
			`{"chardev":"dax0.0","path":"/dev/dax0.0","region_id":0,"size":2147483648,"align":2097152,"mode":"devdax","state":"enabled"}`,
		},
		{
			Device{Chardev: "dax1.0", RegionID: 1, TargetNode: &node, Mode: ModeSystemRAM, State: StateEnabled, OnlineMemblocks: &none, TotalMemblocks: &all, Movable: &movable},
			`{"chardev":"dax1.0","region_id":1,"size":0,"target_node":1,"mode":"system-ram","state":"enabled","online_memblocks":0,"total_memblocks":15,"movable":true}`,
		},
	} {
		got, err := json.Marshal(tc.dev)
		require.NoError(t, err)
		assert.JSONEq(t, tc.want, string(got))
	}
}

// TestListOnThisMachine works with and without dax devices, and changes none.
func TestListOnThisMachine(t *testing.T) {
	const absent = "dax99999.0"
	devs, err := Lib{}.List()
	if errors.Is(err, ErrUnsupported) {
		_, err = Lib{}.Reconfigure(absent, Reconfigure{Mode: ModeDevDAX})
		require.ErrorIs(t, err, ErrUnsupported)
		return
	}
	require.NoError(t, err)
	assert.NotNil(t, devs, "a list in JSON, also when it is empty")

	_, err = Lib{}.Reconfigure(absent, Reconfigure{Mode: ModeDevDAX})
	assert.ErrorIs(t, err, ErrNotFound)
	assert.EqualError(t, err, absent+": find: no such device")
}
