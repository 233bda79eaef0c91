//go:build guest

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/blockdev"
	"github.com/pmemctl/pmemctl/internal/fault"
	"github.com/pmemctl/pmemctl/internal/lvm"
)

const (
	repairVG   = "pmemvgregion0"
	archiveDir = "/var/lib/pmemctl/lvm/" + repairVG
	endBytes   = 2 << 20
)

// brokenGroup is a volume group whose device is damaged on purpose.
type brokenGroup struct {
	t          *testing.T
	device     string
	size       int64
	head, tail []byte // of the whole device, before
	uuids      string // of the group and its volumes
}

// newGroup makes a group with two volumes and data on them, as after a reboot: nothing
// is up, and nothing is known but what is on the devices and in the archive.
func newGroup(t *testing.T) *brokenGroup {
	require.NoError(t, resetPMEM())
	must(t, "vg init --percent 5 region0")
	return fillGroup(t)
}

func fillGroup(t *testing.T) *brokenGroup {
	for _, name := range []string{"a", "b"} {
		must(t, "volume create "+name+" --type lvm --size 32Mi")
		must(t, "volume mount "+name+" /mnt/"+name)
		require.NoError(t, os.WriteFile("/mnt/"+name+"/file", []byte("data of "+name), 0o600))
		must(t, "volume unmount "+name)
	}
	g := &brokenGroup{t: t, device: strings.TrimSpace(runOut(t, "pvs", "--noheadings", "-o", "pv_name", "-S", "vg_name="+repairVG))}
	g.uuids = g.seen()
	g.reboot()
	f, err := os.Open(g.device)
	require.NoError(t, err)
	defer f.Close()
	g.size, err = f.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	g.head, g.tail = g.read(0, endBytes), g.read(g.size-endBytes, endBytes)
	return g
}

func must(t *testing.T, line string) string {
	t.Helper()
	out, err := pmemctl(nil, strings.Fields(line)...)
	require.NoError(t, err, "pmemctl %s: %s", line, out)
	return out
}

func vgRefused(t *testing.T, code int, reason, line string) {
	t.Helper()
	out, err := pmemctl(nil, strings.Fields(line)...)
	assert.Equal(t, code, exitCode(err), "pmemctl %s: %s", line, out)
	assert.Contains(t, out, reason)
	assert.Contains(t, out, "  next: ")
}

func runOut(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).Output()
	require.NoError(t, err, "%v", args)
	return string(out)
}

// seen is what LVM sees of the group.
func (g *brokenGroup) seen() string {
	return runOut(g.t, "lvs", "--noheadings", "-o", "vg_uuid,lv_uuid,lv_name,lv_size,seg_pe_ranges", repairVG)
}

// reboot takes the volumes down and forgets what does not outlive a reboot.
func (g *brokenGroup) reboot() {
	g.t.Helper()
	const script = `
umount -q /mnt/a /mnt/b
for name in a b; do dmsetup remove --retry pmemvgregion0-$name 2>/dev/null || [ ! -e /dev/mapper/pmemvgregion0-$name ] || exit 1; done
rm -rf /run/pmemctl`
	out, err := exec.Command("sh", "-c", script).CombinedOutput()
	require.NoError(g.t, err, "%s", out)
}

func (g *brokenGroup) read(offset, length int64) []byte {
	f, err := os.Open(g.device)
	require.NoError(g.t, err)
	defer f.Close()
	data := make([]byte, length)
	_, err = f.ReadAt(data, offset)
	require.NoError(g.t, err)
	return data
}

func (g *brokenGroup) write(offset int64, data []byte) {
	f, err := os.OpenFile(g.device, os.O_WRONLY, 0)
	require.NoError(g.t, err)
	_, err = f.WriteAt(data, offset)
	require.NoError(g.t, err)
	require.NoError(g.t, f.Sync())
	require.NoError(g.t, f.Close())
}

func (g *brokenGroup) flip(offset int64) {
	data := g.read(offset, 1)
	data[0] ^= 0x40
	g.write(offset, data)
}

// holdsAll: LVM sees the same group and volumes, and they have their data.
func (g *brokenGroup) holdsAll(where string) {
	g.t.Helper()
	assert.Equal(g.t, g.uuids, g.seen(), where)
	must(g.t, "vg check")
	for _, name := range []string{"a", "b"} {
		must(g.t, "volume mount "+name+" /mnt/"+name)
		data, err := os.ReadFile("/mnt/" + name + "/file")
		assert.NoError(g.t, err, where)
		assert.Equal(g.t, "data of "+name, string(data), where)
	}
	g.reboot()
}

type vgPart struct{ Part, State, Reason, Next string }

// check is vg check, whose exit code must agree with what it shows.
func (g *brokenGroup) check() []vgPart {
	g.t.Helper()
	cmd := exec.Command(faultpointsBinary(), "vg", "check", "-o", "json")
	out, err := cmd.Output()
	var l struct{ Parts []vgPart }
	require.NoError(g.t, json.Unmarshal(out, &l))
	damaged := 0
	for _, p := range l.Parts {
		if p.State != "ok" {
			damaged++
			assert.NotEmpty(g.t, p.Reason)
			assert.NotEmpty(g.t, p.Next)
		}
	}
	assert.Equal(g.t, map[bool]int{true: 11, false: 0}[damaged > 0], exitCode(err))
	return l.Parts
}

// disk is LVM's data on the device.
func (g *brokenGroup) disk() lvm.Disk {
	dev, err := blockdev.OpenToRead(g.device)
	require.NoError(g.t, err)
	defer dev.Close()
	return lvm.ReadDisk(dev, dev.Size())
}

// TestVGRepairEveryByte: with any byte of the label or of a header wrong the damage is
// seen and it is known what was there; one byte of each field is restored for real, and
// LVM asked.
func TestVGRepairEveryByte(t *testing.T) {
	g := newGroup(t)
	parts := g.check()
	require.Len(t, parts, 3, "a label and two copies")
	require.Equal(t, "2 2097152", strings.Join(strings.Fields(runOut(t, "pvs", "--noheadings", "--nosuffix", "--units", "b", "-o", "pv_mda_count,pe_start", g.device)), " "),
		"two copies, and data on 2 MiB")

	good := g.disk()
	begun, tail := time.Now(), g.size-endBytes
	device, err := os.OpenFile(g.device, os.O_RDWR, 0)
	require.NoError(t, err)
	flip := func(at int64) {
		var b [1]byte
		_, err := device.ReadAt(b[:], at)
		require.NoError(t, err)
		b[0] ^= 1 << (at % 8)
		_, err = device.WriteAt(b[:], at)
		require.NoError(t, err)
	}
	for _, part := range []struct {
		name   string
		at     int64
		was    []byte
		damage func(lvm.Disk) string
	}{
		{"label", 512, g.head, func(d lvm.Disk) string { return d.LabelDamage }},
		{"first header", 4096, g.head[4096:], func(d lvm.Disk) string { return d.Copies[0].Damage }},
		{"second header", tail, g.tail, func(d lvm.Disk) string { return d.Copies[1].Damage }},
	} {
		for i := range int64(512) {
			flip(part.at + i)
			d := g.disk()
			require.NotEmpty(t, part.damage(d), "%s, byte %d", part.name, i)
			writes, err := d.Repair(good.Copies[0].Text, good.Copies[0].Group, good.Copies[0].Group.PVs[0])
			require.NoError(t, err)
			require.Len(t, writes, 1, "%s, byte %d", part.name, i)
			require.True(t, bytes.Equal(part.was[:len(writes[0].Data)], writes[0].Data), "%s, byte %d: what it writes is what was there", part.name, i)
			flip(part.at + i)
		}
	}
	require.NoError(t, device.Close())
	t.Logf("every byte: %.1f s", time.Since(begun).Seconds())

	// One byte of each field of the label (header, PV header, its lists, the extension,
	// the space behind) and of a header of metadata (checksum, magic, version, start,
	// size, text in use, text to come, the space behind), in all three at once.
	label := []int64{512, 520, 528, 532, 536, 544, 576, 584, 600, 616, 624, 632, 640, 648, 664, 668, 900, 0, 1080, 4000}
	header := []int64{0, 4, 20, 24, 32, 40, 48, 56, 60, 64, 80, 400}
	begun = time.Now()
	for i := range label {
		first, second := header[i%len(header)], header[(i+1)%len(header)]
		where := fmt.Sprintf("bytes %d, %d and %d", label[i], 4096+first, tail+second)
		g.flip(label[i])
		g.flip(4096 + first)
		g.flip(tail + second)
		for _, p := range g.check() {
			assert.Equal(t, "damaged", p.State, "%s: %s", where, p.Part)
			assert.Equal(t, "pmemctl vg repair "+repairVG, p.Next)
		}
		out := must(t, "vg repair "+repairVG+" --force")
		assert.Contains(t, out, "2 volumes: a, b", where)
		require.True(t, bytes.Equal(g.head, g.read(0, endBytes)), "%s: the head is as it was", where)
		require.True(t, bytes.Equal(g.tail, g.read(tail, endBytes)), "%s: the tail is as it was", where)
	}
	g.holdsAll("every field")
	t.Logf("fields: %.1f s", time.Since(begun).Seconds())
}

func zeros(n int) []byte { return make([]byte, n) }

// TestVGRepairGone has more than a byte gone.
func TestVGRepairGone(t *testing.T) {
	g := newGroup(t)
	tail := g.size - endBytes
	for _, c := range []struct {
		what   string
		damage func()
		source string
		states string
	}{
		{"the first 4 KiB", func() { g.write(0, zeros(4096)) }, "copy 1 on " + g.device, "damaged ok ok"},
		{"the whole head", func() { g.write(0, zeros(endBytes)) }, "copy 2 on " + g.device, "damaged damaged ok"},
		{"another file system on the head", func() {
			runOut(t, "mkfs.ext4", "-F", "-q", "-b", "4096", g.device, "256")
		}, "", "damaged damaged ok"},
		{"the whole head, without an archive", func() { g.write(0, zeros(endBytes)); require.NoError(t, os.RemoveAll(archiveDir)) }, "copy 2 on " + g.device, "damaged damaged ok"},
		{"both ends", func() { g.write(0, zeros(endBytes)); g.write(tail, zeros(endBytes)) }, "the archive, " + archiveDir, "damaged damaged damaged"},
		{"the tail", func() { g.write(tail, zeros(endBytes)) }, "copy 1 on " + g.device, "ok ok damaged"},
	} {
		c.damage()
		var states []string
		for _, p := range g.check() {
			states = append(states, p.State)
		}
		assert.Equal(t, c.states, strings.Join(states, " "), c.what)
		vgRefused(t, 10, "Cannot prompt", "vg repair "+repairVG)
		out := must(t, "vg repair "+repairVG+" --force")
		assert.Contains(t, out, "will be restored from "+c.source, c.what)
		assert.Equal(t, strings.HasSuffix(c.what, "without an archive"), strings.Contains(out, "The only evidence is a copy at the end of the device"), c.what)
		g.holdsAll(c.what)
		g.write(0, g.head)
		g.write(tail, g.tail)
		g.reboot()
	}
	assert.Contains(t, must(t, "vg repair "+repairVG), "are not damaged")
	files, err := filepath.Glob(archiveDir + "/*.overwritten.gz")
	require.NoError(t, err)
	assert.Len(t, files, 6, "what was overwritten is kept, since the archive was removed")
}

// TestVGRepairOneCopy is about a group of an earlier version, without a second copy.
func TestVGRepairOneCopy(t *testing.T) {
	require.NoError(t, resetPMEM())
	out, err := exec.Command("sh", "-c", `
set -e
ndctl create-namespace -r region0 -m fsdax -s 224M -a 2M -n pmemctl=pmemvgregion0 >/dev/null
vgcreate -y --addtag pmemctl -s 2097152b --dataalignment 2097152b pmemvgregion0 /dev/pmem0`).CombinedOutput()
	require.NoError(t, err, "%s", out)
	g := fillGroup(t)
	parts := g.check()
	require.Len(t, parts, 2, "a label and one copy")
	for what, damage := range map[string]func(){
		"a byte of both": func() { g.flip(600); g.flip(4100) },
		"the head":       func() { g.write(0, zeros(endBytes)) },
	} {
		damage()
		for _, p := range g.check() {
			assert.Equal(t, "damaged", p.State, "%s: %s", what, p.Part)
		}
		// LVM's own tool takes the archive too.
		names, err := filepath.Glob(archiveDir + "/*.vg")
		require.NoError(t, err)
		require.NotEmpty(t, names)
		assert.Contains(t, runOut(t, "vgcfgrestore", "--list", "--file", names[len(names)-1], repairVG), repairVG)
		must(t, "vg repair "+repairVG+" --force")
		g.holdsAll(what)
		assert.Len(t, g.check(), 2, "still one copy: there is data where the second would be")
	}

	// What a tenant wrote to the end of the device, where a second copy would lie, is
	// not believed.
	forged := g.read(4096, 1<<20)
	g.write(0, zeros(endBytes))
	g.write(g.size-endBytes, forged)
	require.Len(t, g.check(), 2)
	assert.Contains(t, must(t, "vg repair "+repairVG+" --force"), "will be restored from the archive")
	assert.Equal(t, forged, g.read(g.size-endBytes, 1<<20), "data is not touched")
	g.holdsAll("a forged copy")
}

// TestVGRepairNamesakes has two groups of one name, as when a DIMM came from another
// host: the damaged one is repaired, by the name or its UUID, and the other not touched.
func TestVGRepairNamesakes(t *testing.T) {
	g := newGroup(t)
	must(t, "vg init --percent 5 region1")
	must(t, "volume create c --type lvm --size 32Mi --vg pmemvgregion1")
	device := strings.TrimSpace(runOut(t, "pvs", "--noheadings", "-o", "pv_name", "-S", "vg_name=pmemvgregion1"))
	uuid := strings.TrimSpace(runOut(t, "vgs", "--noheadings", "-o", "vg_uuid", "pmemvgregion1"))
	runOut(t, "sh", "-e", "-c", `
dmsetup remove --retry pmemvgregion1-c
vgrename -q --config 'devices{filter=["a|`+device+`|","r|.*|"]}' pmemvgregion1 `+repairVG+`
n=$(ndctl list -N -r region1 | sed -n 's/.*"dev":"\([^"]*\)".*/\1/p')
ndctl disable-namespace $n >&2
echo pmemctl=`+repairVG+` > /sys/bus/nd/devices/$n/alt_name
ndctl enable-namespace $n >&2`)
	theirs := &brokenGroup{t: t, device: device, size: g.size}
	ourUUID := strings.Fields(g.uuids)[0]
	must(t, "vg check")
	must(t, "volume create d --type lvm --size 16Mi --region region0") // both are in the archive now
	must(t, "volume delete d --force --no-erase")
	seen := func() string {
		return runOut(t, "lvs", "--noheadings", "-o", "vg_uuid,lv_uuid,lv_name,lv_size,seg_pe_ranges")
	}
	whole := seen()

	// repair repairs one of them, and does not write to the other.
	repair := func(name string, other *brokenGroup) string {
		t.Helper()
		head, tail := other.read(0, endBytes), other.read(other.size-endBytes, endBytes)
		out := must(t, "vg repair "+name+" --force")
		assert.True(t, bytes.Equal(head, other.read(0, endBytes)) && bytes.Equal(tail, other.read(other.size-endBytes, endBytes)), "the other was written to")
		return out
	}
	gone := func(b *brokenGroup) { b.write(0, zeros(endBytes)); b.write(b.size-endBytes, zeros(endBytes)) }

	theirs.write(0, zeros(endBytes))
	vgRefused(t, 11, "is damaged", "vg check "+repairVG)
	out := repair(repairVG, g)
	assert.Contains(t, out, "will be restored from copy 2 on "+device)
	assert.Contains(t, out, "1 volumes: c")
	must(t, "vg check")

	gone(theirs)
	assert.Contains(t, repair(repairVG, g), "will be restored from the archive")
	must(t, "vg check")

	gone(theirs)
	gone(g)
	vgRefused(t, 4, "there are 2 damaged groups of that name", "vg repair "+repairVG+" --force")
	assert.Contains(t, repair(ourUUID, theirs), "2 volumes: a, b")
	assert.Contains(t, repair(uuid, g), "1 volumes: c")
	must(t, "vg check")
	assert.Equal(t, whole, seen())
}

// TestVGRepairKilled kills it at each step.
func TestVGRepairKilled(t *testing.T) {
	g := newGroup(t)
	damage := func() { g.write(0, zeros(endBytes)); g.flip(g.size - endBytes + 50) }
	damage()
	log := filepath.Join(t.TempDir(), "steps")
	repair := []string{"vg", "repair", repairVG, "--force"}
	out, err := pmemctl([]string{fault.LogEnv + "=" + log}, repair...)
	require.NoError(t, err, out)
	steps := stepsIn(t, log)
	require.Greater(t, len(steps), 10)
	eachKill(t, steps, 4, func(env []string, where string) {
		damage()
		out, err := pmemctl(env, repair...)
		require.True(t, wasKilled(err), "%s: %v %s", where, err, out)
		out, err = pmemctl(nil, repair...)
		require.NoError(t, err, "%s: %s", where, out)
		must(t, "vg check")
		assert.Equal(t, g.uuids, g.seen(), where)
		g.flipBack()
	})
	g.holdsAll("killed and repeated")
}

// flipBack has the device as it was in the beginning.
func (g *brokenGroup) flipBack() {
	g.write(0, g.head)
	g.write(g.size-endBytes, g.tail)
}

// TestVGRepairRefusals: nothing is written when it is not certain.
func TestVGRepairRefusals(t *testing.T) {
	g := newGroup(t)
	tail := g.size - endBytes
	vgRefused(t, 3, "has no device created by pmemctl", "vg repair nosuch")
	vgRefused(t, 3, "has no device created by pmemctl", "vg check nosuch")

	// In use, the repair of a lost head works as long as the tables are the same.
	must(t, "volume mount a /mnt/a")
	g.write(0, zeros(endBytes))
	must(t, "vg repair "+repairVG+" --force")
	data, err := os.ReadFile("/mnt/a/file")
	require.NoError(t, err)
	assert.Equal(t, "data of a", string(data))

	// Both copies gone, and what the archive has does not know the volume in use.
	archived, err := filepath.Glob(archiveDir + "/*.vg")
	require.NoError(t, err)
	require.Greater(t, len(archived), 3, "an archive of each change")
	kept := t.TempDir()
	for _, file := range archived {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if bytes.Contains(data, []byte("\na {")) {
			require.NoError(t, os.WriteFile(filepath.Join(kept, filepath.Base(file)), data, 0o600))
			require.NoError(t, os.Remove(file))
		}
	}
	g.write(0, zeros(endBytes))
	g.write(tail, zeros(endBytes))
	vgRefused(t, 6, "/dev/mapper/pmemvgregion0-a is active with a table that differs", "vg repair "+repairVG+" --force")
	require.NoError(t, os.RemoveAll(archiveDir))
	vgRefused(t, 7, "nothing is left to restore it from", "vg repair "+repairVG+" --force")
	vgRefused(t, 11, "is damaged", "vg check")
	assert.Equal(t, zeros(endBytes), g.read(0, endBytes), "nothing was written")
	assert.Equal(t, zeros(endBytes), g.read(tail, endBytes), "nothing was written")
	require.NoError(t, os.MkdirAll(archiveDir, 0o700))
	runOut(t, "sh", "-c", "cp "+kept+"/* "+archiveDir)
	must(t, "vg repair "+repairVG+" --force")
	g.reboot()
	g.holdsAll("the archive is back")

	// The archive is older than what the devices had.
	archived, err = filepath.Glob(archiveDir + "/*.vg")
	require.NoError(t, err)
	for _, file := range archived {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		if bytes.Contains(data, []byte("\nb {")) {
			require.NoError(t, os.Remove(file))
		}
	}
	g.write(0, zeros(endBytes))
	g.flip(tail + 50)
	g.flip(tail + 300)
	older, _ := pmemctl(nil, "vg", "repair", repairVG)
	assert.Contains(t, older, "with 1 volumes: a\n")
	assert.Contains(t, older, "traces of change")
	g.flipBack()

	// Without a place for what is overwritten nothing is.
	g.write(0, zeros(endBytes))
	runOut(t, "sh", "-c", "mv /var/lib/pmemctl/lvm /var/lib/pmemctl/away && touch /var/lib/pmemctl/lvm")
	vgRefused(t, 7, "cannot be", "vg repair "+repairVG+" --force")
	assert.Equal(t, zeros(endBytes), g.read(0, endBytes), "nothing was written")
	g.flipBack()

	// A change works without an archive, and says so.
	out := must(t, "volume create c --type lvm --size 16Mi")
	assert.Contains(t, out, "note: volume group "+repairVG+": its metadata is not archived in /var/lib/pmemctl/lvm")
	runOut(t, "sh", "-c", "rm /var/lib/pmemctl/lvm && mv /var/lib/pmemctl/away /var/lib/pmemctl/lvm")
	must(t, "volume delete c --force")

	// A device of the group is not there.
	must(t, "vg extend "+repairVG+" region1 --percent 5")
	other := strings.TrimSpace(runOut(t, "pvs", "--noheadings", "-o", "pv_name", "-S", "vg_name="+repairVG+" && pv_name!="+g.device))
	g.write(0, zeros(4096))
	runOut(t, "ndctl", "disable-namespace", strings.TrimSpace(runOut(t, "cat", "/sys/block/"+filepath.Base(other)+"/device/namespace")))
	vgRefused(t, 7, "is disabled", "vg repair "+repairVG+" --force")
	assert.Equal(t, zeros(4096), g.read(0, 4096), "nothing was written")
	runOut(t, "ndctl", "enable-namespace", "-r", "region1", "all")
	must(t, "vg repair "+repairVG+" --force")
	g.uuids = g.seen()
	g.holdsAll("two devices")

	// Both heads gone: whose a device is is known from the archive.
	g.write(0, zeros(endBytes))
	second := *g
	second.device = other
	second.write(0, zeros(endBytes))
	must(t, "vg repair "+repairVG+" --force")
	g.holdsAll("two heads")
}
