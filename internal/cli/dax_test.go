package cli

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

func TestDAXReconfigureFlags(t *testing.T) {
	testFlags(t, newDAXReconfigureCommand, []flagTest[daxReconfigureOptions]{
		{args: "dax0.0 --mode system-ram", want: daxReconfigureOptions{device: "dax0.0", Reconfigure: dax.Reconfigure{Mode: dax.ModeSystemRAM}, output: outputTable}},
		{args: "dax0.0 -m system-ram -N --no-movable -f -o json", want: daxReconfigureOptions{
			device: "dax0.0", Reconfigure: dax.Reconfigure{Mode: dax.ModeSystemRAM, NoOnline: true, NoMovable: true, Force: true}, output: outputJSON}},
		{args: "dax0.0 -m devdax --offline", want: daxReconfigureOptions{device: "dax0.0", Reconfigure: dax.Reconfigure{Mode: dax.ModeDevDAX, Offline: true}, output: outputTable}},
		{args: "dax0.0", err: `required flag(s) "mode" not set`},
		{args: "--mode devdax", err: "accepts 1 arg(s), received 0"},
		{args: "dax0.0 --mode fsdax", err: `dax device dax0.0: "fsdax" is not a mode`},
	})
}

// fakeHost is a service that counts the changes of the host.
type fakeHost struct {
	service
	changes int
}

func (f *fakeHost) ChangeHost(_ context.Context, do func() error) error {
	f.changes++
	return do()
}

func TestDAX(t *testing.T) {
	online, total, node, movable := 3, 4, 2, true
	devices := &fakeDAX{devices: []dax.Device{
		{Chardev: "dax0.0", Mode: dax.ModeDevDAX, Size: pmem.GiB, State: "enabled", Align: 2 * pmem.MiB},
		{Chardev: "dax1.0", Mode: dax.ModeSystemRAM, Size: pmem.GiB, State: "enabled", Align: 2 * pmem.MiB, OnlineMemblocks: &online, TotalMemblocks: &total, TargetNode: &node, Movable: &movable},
	}}
	host := &fakeHost{}
	sh := newShell(host)
	sh.dax = devices
	sh.ok(t, "dax ls -o wide")
	assert.Equal(t, `DEVICE   MODE         SIZE    STATE     ONLINE          ALIGN   TARGET NODE   MOVABLE
dax0.0   devdax       1 GiB   enabled   -               2 MiB   -             -
dax1.0   system-ram   1 GiB   enabled   3 of 4 blocks   2 MiB   2             true
`, sh.stdout.String())

	sh.ok(t, "dax reconfigure dax0.0 --mode system-ram --no-movable")
	assert.Equal(t, "DEVICE   MODE         SIZE   STATE     ONLINE\ndax0.0   system-ram   0 B    enabled   -\n", sh.stdout.String())
	assert.Equal(t, "dax0.0", devices.device)
	assert.Equal(t, dax.Reconfigure{Mode: dax.ModeSystemRAM, NoMovable: true}, devices.how)
	assert.Equal(t, 1, host.changes, "the host is locked")

	for err, code := range map[error]int{
		dax.ErrNotFound: exitNotFound, dax.ErrUnsupported: exitUnsupported, dax.ErrAutoOnline: exitUnsupported, dax.ErrNoDriver: exitUnsupported,
		dax.ErrNoNode: exitUnsupported, dax.ErrClassModel: exitUnsupported, dax.ErrInUse: exitInUse, dax.ErrMemoryOnline: exitInUse,
	} {
		devices.err = err
		assert.Equal(t, code, sh.run("dax reconfigure dax0.0 --mode devdax"), err)
		assert.Equal(t, code, sh.run("dax list"), err)
		assert.Empty(t, sh.stdout.String())
	}
}
