package mount

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/run"
)

func TestAsksForCheck(t *testing.T) {
	for _, c := range []struct {
		state    uint16
		incompat uint32
		asks     bool
		what     string
	}{
		{1, 0x2c2, false, "clean"},
		{1, 0x2c6, true, "a journal to be replayed"},
		{3, 0x2c2, true, "clean with errors"},
		{2, 0x2c2, true, "errors, and not left in order"},
		{0, 0x2c2, true, "not left in order"},
	} {
		sb := make([]byte, 4096)
		binary.LittleEndian.PutUint16(sb[1024+56:], 0xef53)
		binary.LittleEndian.PutUint16(sb[1024+58:], c.state)
		binary.LittleEndian.PutUint32(sb[1024+96:], c.incompat)
		assert.Equal(t, c.asks, asksForCheck(sb), c.what)
	}
}

func TestChecked(t *testing.T) {
	assert.NoError(t, checked("/dev/pmem0", "clean", nil))
	assert.NoError(t, checked("/dev/pmem0", "", &run.Error{Args: []string{"e2fsck"}, Code: 1}), "all was corrected")
	for _, code := range []int{2, 3, 4, 8, 12, 16, 32, 128} {
		err := checked("/dev/pmem0", "one\ntwo\nRUN fsck MANUALLY\n", &run.Error{Args: []string{"e2fsck"}, Code: code, Err: errors.New("exit status")})
		assert.True(t, errs.Is(err, errs.Unsupported), "%d", code)
		assert.ErrorContains(t, err, "has errors that cannot be repaired automatically (e2fsck: two; RUN fsck MANUALLY)")
		assert.Contains(t, errs.NextStep(err), "repair it: e2fsck -f /dev/pmem0")
	}
	killed := checked("/dev/pmem0", "", errs.Wrap(errs.Deadline, "e2fsck", "timed out and was killed", "", &run.Error{Args: []string{"e2fsck"}, Code: -1, Err: errors.New("killed")}))
	assert.ErrorContains(t, killed, "could not be checked")
}

func TestHowToRepair(t *testing.T) {
	for _, err := range []error{unix.EUCLEAN, unix.EIO, unix.EBADMSG} {
		assert.Contains(t, HowToRepair("/dev/pmem0", XFS, err), "xfs_repair /dev/pmem0")
		assert.Contains(t, HowToRepair("/dev/pmem0", Ext4, err), "e2fsck -f /dev/pmem0")
	}
	assert.Empty(t, HowToRepair("/dev/pmem0", Ext4, unix.EBUSY))
	assert.Empty(t, HowToRepair("/dev/pmem0", "btrfs", unix.EIO))
}

// TestFaultOfOptions is for kernels whose mount table shows the fault.
func TestFaultOfOptions(t *testing.T) {
	dir := t.TempDir()
	at := func(own string, super ...string) (Point, []Point) {
		p := Point{Path: dir, FSType: Ext4, Own: []string{own}, Super: super}
		return p, []Point{p}
	}
	var n blockdev.Number
	for _, c := range []struct {
		own   string
		super []string
		fault Fault
		what  string
	}{
		{"rw", []string{"rw", "dax=always"}, "", "sound"},
		{"ro", []string{"ro"}, "", "mounted read-only"},
		{"rw", []string{"ro"}, MadeReadOnly, "made read-only, up to Linux 6.11"},
		{"rw", []string{"rw", "emergency_ro"}, MadeReadOnly, "since Linux 6.15"},
		{"rw", []string{"rw", "shutdown"}, ShutDown, "shut down"},
	} {
		p, all := at(c.own, c.super...)
		assert.Equal(t, c.fault, FaultOf(n, p, all), c.what)
	}
}
