//go:build guest

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/test/integration/logwrites"
	"github.com/pmemctl/pmemctl/test/testenv"
)

// The power cuts of TestPowerCut keep every store. These tests have a device with a cache,
// whose content is lost if nobody flushes it: pmemctl works on dm-log-writes in place of
// /dev/pmem0, and each prefix of its log is what a medium may hold after a power cut.

const (
	flushGroup = "pmemvgregion0"
	// lvmsOwn is what LVM has of a device, for its label and metadata, in bytes.
	lvmsOwn = 2 << 20
)

// TestFlushVG: a group that was made is there; of one that was not, nothing is in the way.
func TestFlushVG(t *testing.T) {
	init := words("vg init --size 64Mi region0")[0]
	require.NoError(t, resetPMEM())
	steps := t.TempDir() + "/steps"
	out, err := pmemctl([]string{fault.LogEnv + "=" + steps}, init...)
	require.NoError(t, err, out)
	at := slices.Index(stepsIn(t, steps), "before vgcreate")
	require.GreaterOrEqual(t, at, 0)
	joining := func() { // the namespace as it is when it is given to vgcreate
		t.Helper()
		require.NoError(t, resetPMEM())
		out, err := pmemctl([]string{fmt.Sprintf("%s=%d", fault.KillAtEnv, at+1)}, init...)
		require.True(t, wasKilled(err), "%v %s", err, out)
	}
	joining()
	d := interpose(t, "pmem0")
	base := d.read(t)
	client := lvm.Client{RunDir: t.TempDir(), Devices: func() ([]string, error) { return []string{"pmem0"}, nil }}
	require.NoError(t, client.CreateVG(t.Context(), flushGroup, "pmemctl", 2<<20, 2<<20, "/dev/pmem0"))
	client.Close()
	d.mark(t, 0)
	const uuidOf = "vgs --noheadings -o vg_uuid " + flushGroup
	made := output(t, "sh", "-c", uuidOf)
	log := d.remove(t, flushGroup)

	image, tried := slices.Clone(base), 0
	for i, e := range log.Entries {
		require.NoError(t, log.Apply(e, image))
		if !testenv.All(testenv.Flush) && e.Flags&logwrites.Mark == 0 && i%5 != 0 {
			continue
		}
		where := fmt.Sprintf("after %d writes (%d bytes at %d, flags %d)", i+1, e.Length, e.Offset, e.Flags)
		if i > 0 {
			joining()
		}
		afterPowerCut(t)
		d.write(t, image, []logwrites.Entry{{Length: int64(len(image))}})
		out, err := pmemctl(nil, "vg", "list")
		if !assert.NoError(t, err, "%s: %s", where, out) {
			break
		}
		out, err = pmemctl(nil, init...)
		if !assert.NoError(t, err, "%s: %s", where, out) {
			break
		}
		tried++
		now := output(t, "sh", "-c", uuidOf)
		if e.Flags&logwrites.Mark != 0 {
			assert.Equal(t, made, now, "vgcreate had ended, %s", where)
			break
		}
	}
	assert.Greater(t, tried, 1)
	t.Logf("%d prefixes", tried)
	require.NoError(t, resetPMEM())
}

// TestFlush: what a command that has ended did is there, what it was at is not half made,
// and the command succeeds again.
func TestFlush(t *testing.T) {
	every := testenv.All(testenv.Flush)
	steps := []struct {
		args []string
		gone int // exit code of the command when it was done already, beside 0
	}{
		{args: words("volume create old --type lvm --size 16Mi")[0]},
		{args: words("volume create raw --type lvm --size 8Mi --fs none")[0]},
		{args: words("volume expand old --size 24Mi")[0]},
		{args: words("volume clone old copy")[0], gone: 4},
		{args: words("volume delete raw --force")[0], gone: 3},
	}
	if !every { // a copy has thousands of writes
		steps = slices.Delete(steps, 3, 4)
	}
	require.NoError(t, resetPMEM())
	out, err := pmemctl(nil, "vg", "init", "--size", "64Mi", "region0")
	require.NoError(t, err, out)
	d := interpose(t, "pmem0")
	base := d.read(t)
	states := [][]listed{nil} // after each step
	for i, s := range steps {
		out, err := pmemctl(nil, s.args...)
		require.NoError(t, err, "%v: %s", s.args, out)
		d.mark(t, i)
		states = append(states, volumes(t))
	}
	log := d.remove(t, flushGroup)

	// The log is whole, and is played as it should be.
	image := slices.Clone(base)
	for _, e := range log.Entries {
		require.NoError(t, log.Apply(e, image))
	}
	require.True(t, slices.Equal(image, d.read(t)), "what is played again is not what was written")

	isContent := func(e logwrites.Entry) bool {
		return e.Offset >= lvmsOwn && e.Flags&(logwrites.Flush|logwrites.Mark) == 0
	}
	contents := 0
	for _, e := range log.Entries {
		if isContent(e) {
			contents++
		}
	}
	const most = 300 // of prefixes that end in content
	stride := contents/most + 1

	copy(image, base)
	changed := []logwrites.Entry{{Length: int64(len(image))}} // since the device was written
	step, tried, again, begun := 0, 0, -1, time.Now()
	for i, e := range log.Entries {
		require.NoError(t, log.Apply(e, image))
		if e.Length > 0 {
			changed = append(changed, e)
		}
		ended := e.Flags&logwrites.Mark != 0
		if ended {
			if step++; step > len(steps) { // the mark that the target makes in its end
				break
			}
		}
		if isContent(e) && (!every || i%stride != 0) || !ended && len(changed) == 0 {
			continue
		}
		tried++
		where := fmt.Sprintf("after %d of %d writes (%d bytes at %d, flags %d)", i+1, len(log.Entries), e.Length, e.Offset, e.Flags)
		afterPowerCut(t)
		d.write(t, image, changed)
		changed = nil
		now := volumes(t)
		if ended {
			assert.Equal(t, described(states[step]), described(now), "%v had ended, %s", steps[step-1].args, where)
		} else {
			asBeforeOrAfter(t, now, states[step], states[step+1], where)
		}
		if every || ended {
			groups, err := pmemctl(nil, "vg", "list")
			assert.NoError(t, err, "%s, %s", groups, where)
			assert.Regexp(t, `(?m)^`+flushGroup+` .* pmemctl *$`, groups, where)
		}
		if every || ended || e.Flags&logwrites.Flush != 0 {
			for _, v := range now {
				if v.State == "ready" && v.Name != "raw" {
					fsckDown(t, v.Name, where)
				}
			}
		}
		// What was interrupted is done again.
		middle := e.Offset < lvmsOwn && e.Length > 0 && again != step
		if !ended && (every || middle) {
			again = step
			out, err := pmemctl(nil, steps[step].args...)
			if code := exitCode(err); code != 0 && code == steps[step].gone {
				err = nil
			}
			assert.NoError(t, err, "%v again, %s: %s", steps[step].args, where, out)
			assert.Equal(t, described(states[step+1]), described(volumes(t)), "%v again, %s", steps[step].args, where)
			deactivate(t, flushGroup)
			changed = []logwrites.Entry{{Length: int64(len(image))}}
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d of %d prefixes, %.0f s", tried, len(log.Entries), time.Since(begun).Seconds())
	require.NoError(t, resetPMEM())
}

// described is what has to be the same of volumes, in their order.
func described(list []listed) (lines []string) {
	for _, v := range list {
		lines = append(lines, fmt.Sprintf("%s %s %d %s", v.Name, v.Type, v.Size, v.State))
	}
	slices.Sort(lines)
	return lines
}

// asBeforeOrAfter looks at the volumes in the middle of a command.
func asBeforeOrAfter(t *testing.T, now, before, after []listed, where string) {
	t.Helper()
	find := func(list []listed, name string) (listed, bool) {
		i := slices.IndexFunc(list, func(v listed) bool { return v.Name == name })
		if i < 0 {
			return listed{}, false
		}
		return list[i], true
	}
	for _, v := range before {
		if _, stays := find(after, v.Name); stays {
			n, there := find(now, v.Name)
			assert.True(t, there && n.State == "ready", "volume %s is %v, %s", v.Name, n, where)
		}
	}
	for _, v := range now {
		if v.State != "ready" {
			continue
		}
		b, was := find(before, v.Name)
		a, will := find(after, v.Name)
		assert.True(t, was && b.Size == v.Size || will && a.Size == v.Size, "volume %v is neither as before nor as after, %s", v, where)
	}
}

// fsckDown checks the ext4 of a volume, which is down before and after it.
func fsckDown(t *testing.T, name, where string) {
	t.Helper()
	const group = flushGroup
	out, err := exec.Command("lvchange", "-ay", group+"/"+name).CombinedOutput()
	require.NoError(t, err, "%s, %s", out, where)
	out, err = exec.Command("e2fsck", "-f", "-n", "/dev/"+group+"/"+name).CombinedOutput()
	assert.NoError(t, err, "%s is ready: %s, %s", name, out, where)
	deactivate(t, group)
}

func deactivate(t *testing.T, group string) {
	t.Helper()
	shell(t, "udevadm settle; vgchange -an "+group+" 2>&1")
}

// afterPowerCut forgets what pmemctl has outside of the PMEM.
func afterPowerCut(t *testing.T) {
	t.Helper()
	shell(t, "rm -rf /run/pmemctl /var/lib/pmemctl")
}

// device is a block device whose node leads to a target of dm-log-writes over it.
type device struct {
	path, log, loop string
}

// interpose puts dm-log-writes in front of a device, for whoever opens its node.
func interpose(t *testing.T, name string) device {
	t.Helper()
	d := device{path: "/dev/" + name, log: "/dev/shm/log-writes"}
	shell(t, "modprobe dm-log-writes; rm -f "+d.log+"; truncate -s 512M "+d.log)
	d.loop = strings.TrimSpace(output(t, "losetup", "--find", "--show", d.log))
	t.Cleanup(func() {
		_ = exec.Command("sh", "-c", "umount -q "+d.path+"; dmsetup remove --retry log-writes; losetup -d "+d.loop+"; rm -f "+d.log).Run()
	})
	shell(t, `
udevadm settle
dmsetup create log-writes --table "0 $(blockdev --getsz `+d.path+`) log-writes `+d.path+` `+d.loop+`"
udevadm settle
mount --bind "$(readlink -f /dev/mapper/log-writes)" `+d.path)
	return d
}

// mark puts the end of a step into the log.
func (d device) mark(t *testing.T, step int) {
	t.Helper()
	shell(t, fmt.Sprintf("dmsetup message log-writes 0 mark step%d", step))
}

// remove takes the target away again, when the group on it is down, and reads its log.
func (d device) remove(t *testing.T, group string) *logwrites.Log {
	t.Helper()
	deactivate(t, group)
	shell(t, "udevadm settle; umount "+d.path+"; dmsetup remove --retry log-writes")
	f, err := os.Open(d.loop)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	log, err := logwrites.Read(f)
	require.NoError(t, err)
	return log
}

// read reads all of the device.
func (d device) read(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open(d.path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0))
	data, err := os.ReadFile(d.path)
	require.NoError(t, err)
	return data
}

// write writes parts of the image to the device.
func (d device) write(t *testing.T, image []byte, parts []logwrites.Entry) {
	t.Helper()
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	for _, p := range parts {
		_, err := f.WriteAt(image[p.Offset:p.Offset+p.Length], p.Offset)
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	require.NoError(t, unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0))
}
