package cli

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestVolumeCreateFlags(t *testing.T) {
	dir := t.TempDir()
	testFlags(t, newVolumeCreateCommand, []flagTest[volumeCreateOptions]{
		{args: "db --type lvm --size 10Gi", want: volumeCreateOptions{
			spec: volume.Spec{Name: "db", Type: volume.TypeLVM, Size: 10 * pmem.GiB, FS: mount.Ext4}, output: outputTable}},
		{args: "db -t direct -s 1Gi --limit 2Gi --region region0 --fs xfs --mkfs-option -i --mkfs-option maxpct=5 --dry-run -o json", want: volumeCreateOptions{
			spec:   volume.Spec{Name: "db", Type: volume.TypeDirect, Size: pmem.GiB, Limit: 2 * pmem.GiB, Region: "region0", FS: mount.XFS, MkfsOptions: []string{"-i", "maxpct=5"}},
			dryRun: true, output: outputJSON}},
		{args: "db -t lvm -s 1Gi --vg pmemvg --stripe --fs none", want: volumeCreateOptions{
			spec: volume.Spec{Name: "db", Type: volume.TypeLVM, Size: pmem.GiB, VG: "pmemvg", Stripe: true, FS: mount.None}, output: outputTable}},
		{args: "db -t lvm -s 1Gi --mount " + dir + "/./db", want: volumeCreateOptions{
			spec: volume.Spec{Name: "db", Type: volume.TypeLVM, Size: pmem.GiB, FS: mount.Ext4}, mountPath: filepath.Join(dir, "db"), output: outputTable}},
		{args: "db -t direct -s max --limit 2Gi --region region0", want: volumeCreateOptions{
			spec: volume.Spec{Name: "db", Type: volume.TypeDirect, Max: true, Limit: 2 * pmem.GiB, Region: "region0", FS: mount.Ext4}, output: outputTable}},
		{args: "db -t lvm -s max -s 1Gi", want: volumeCreateOptions{spec: volume.Spec{Name: "db", Type: volume.TypeLVM, Size: pmem.GiB, FS: mount.Ext4}, output: outputTable}},
		{args: "db -t lvm -s 1Gi -s max", want: volumeCreateOptions{spec: volume.Spec{Name: "db", Type: volume.TypeLVM, Max: true, FS: mount.Ext4}, output: outputTable}},
		{args: "db --size max", err: `required flag(s) "type" not set`},
		{args: "db --type lvm --size Max", err: `invalid argument "Max" for "-s, --size" flag`},
		{args: "db --type lvm --size 1Gi --limit max", err: `invalid argument "max" for "--limit" flag`},
		{args: "--type lvm --size 1Gi", err: "accepts 1 arg(s), received 0"},
		{args: "db copy --type lvm --size 1Gi", err: "accepts 1 arg(s), received 2"},
		{args: "db --type lvm", err: `required flag(s) "size" not set`},
		{args: "db", err: `required flag(s) "size", "type" not set`},
		{args: "db --type lvm --size ten", err: `invalid argument "ten" for "-s, --size" flag`},
		{args: "db --type lvm --size 1Gi -o xml", err: "use table, wide, json, yaml"},
		{args: "db --type lvm --size 1Gi --mode x", err: "unknown flag: --mode"},
	})
}

func TestVolumeDeleteFlags(t *testing.T) {
	testFlags(t, newVolumeDeleteCommand, []flagTest[volumeDeleteOptions]{
		{args: "db", want: volumeDeleteOptions{names: []string{"db"}, wait: true}},
		{args: "db web --force --no-erase --unmount --ignore-missing --wait=false", want: volumeDeleteOptions{
			names: []string{"db", "web"}, force: true, noErase: true, unmount: true, ignoreMissing: true}},
		{args: "--force", err: "requires at least 1 arg(s), only received 0"},
	})
}

func TestVolumeExpandFlags(t *testing.T) {
	testFlags(t, newVolumeExpandCommand, []flagTest[volumeExpandOptions]{
		{args: "db --size 20Gi", want: volumeExpandOptions{name: "db", size: 20 * pmem.GiB, output: outputTable}},
		{args: "db -s 1048576 -o yaml", want: volumeExpandOptions{name: "db", size: pmem.MiB, output: outputYAML}},
		{args: "db -s max", want: volumeExpandOptions{name: "db", max: true, output: outputTable}},
		{args: "db", err: `required flag(s) "size" not set`},
		{args: "db --size 0", err: "expand: wrong usage: the size must be greater than 0"},
	})
}

func TestVolumeCloneFlags(t *testing.T) {
	testFlags(t, newVolumeCloneCommand, []flagTest[volumeCloneOptions]{
		{args: "db copy", want: volumeCloneOptions{source: "db", spec: volume.Spec{Name: "copy"}, output: outputTable}},
		{args: "db copy --type direct --size 2Gi --region region1 -o wide", want: volumeCloneOptions{
			source: "db", spec: volume.Spec{Name: "copy", Type: volume.TypeDirect, Size: 2 * pmem.GiB, Region: "region1"}, output: outputWide}},
		{args: "db copy --vg pmemvg --stripe", want: volumeCloneOptions{
			source: "db", spec: volume.Spec{Name: "copy", VG: "pmemvg", Stripe: true}, output: outputTable}},
		{args: "db", err: "accepts 2 arg(s), received 1"},
		{args: "db copy --size 0Gi", err: "clone: wrong usage: the size must be greater than 0"},
	})
}

func TestVolumeMountFlags(t *testing.T) {
	testFlags(t, newVolumeMountCommand, []flagTest[volumeMountOptions]{
		{args: "db /mnt/db", want: volumeMountOptions{spec: volume.MountSpec{Name: "db", Path: "/mnt/db"}}},
		{args: "db /mnt/db --persist", want: volumeMountOptions{spec: volume.MountSpec{Name: "db", Path: "/mnt/db"}, persist: true}},
		{args: "db /mnt/db --fs xfs --options noexec,nosuid --options noatime --no-dax --read-only", want: volumeMountOptions{spec: volume.MountSpec{
			Name: "db", Path: "/mnt/db", FS: mount.XFS, Options: []string{"noexec", "nosuid", "noatime"}, NoDAX: true, ReadOnly: true}}},
		{args: "db", err: "accepts 2 arg(s), received 1"},
	})
	testFlags(t, newVolumeUnmountCommand, []flagTest[volumeUnmountOptions]{
		{args: "db", want: volumeUnmountOptions{name: "db"}},
		{args: "db --path /mnt/db", want: volumeUnmountOptions{name: "db", path: "/mnt/db"}},
		{args: "db --persist", want: volumeUnmountOptions{name: "db", persist: true}},
		{args: "", err: "accepts 1 arg(s), received 0"},
	})
}

func TestVolumeCreateRefusals(t *testing.T) {
	sh := newShell(noneUnerased{})
	inline := "ephemeral-" + strings.Repeat("0", 32)
	for line, want := range map[string]string{
		"volume create " + inline + " --type lvm --size 1Gi":               `volume name "` + inline + `": is reserved for inline volumes`,
		"volume clone db " + inline:                                        `volume name "` + inline + `": is reserved for inline volumes`,
		"volume create db --type lvm --size 1Gi --fs none --mount /mnt/db": "volume db: --mount and --fs none exclude each other",
	} {
		assert.Equal(t, exitInvalid, sh.run(line), line)
		assert.Contains(t, sh.stderr.String(), want, line)
	}
}

// fakeVolumes is a service with a volume that records the calls.
type fakeVolumes struct {
	noneUnerased
	volume                          volume.Volume
	exists                          bool
	createErr, mountErr, unmountErr error
	deleteErr, eraseErr             error
	deleted                         []volume.Volume
	calls                           []string
	spec                            volume.Spec
}

func (f *fakeVolumes) called(call ...string) { f.calls = append(f.calls, strings.Join(call, " ")) }

func (f *fakeVolumes) Create(_ context.Context, spec volume.Spec) (volume.Volume, bool, error) {
	f.spec = spec
	f.called("create", spec.Name)
	return f.volume, !f.exists, f.createErr
}

func (f *fakeVolumes) Clone(_ context.Context, source string, spec volume.Spec) (volume.Volume, error) {
	f.spec = spec
	f.called("clone", source, spec.Name)
	return f.volume, f.createErr
}

func (f *fakeVolumes) Expand(_ context.Context, name string, size, _ uint64) (volume.Volume, error) {
	f.called("expand", name, pmem.FormatSize(size))
	return f.volume, nil
}

func (f *fakeVolumes) ExpandMax(_ context.Context, name string) (volume.Volume, error) {
	f.called("expand", name, "to the maximum")
	return f.volume, f.createErr
}

func (f *fakeVolumes) Mount(_ context.Context, m volume.MountSpec) (volume.Volume, error) {
	f.called("mount", m.Name, m.Path, m.FS)
	return f.volume, f.mountErr
}

func (f *fakeVolumes) Unmount(_ context.Context, name, path string) ([]string, error) {
	f.called("unmount", name, path)
	return []string{"/mnt/a", "/mnt/b"}, f.unmountErr
}

func (f *fakeVolumes) Delete(_ context.Context, name string, erase bool) ([]volume.Volume, error) {
	call := "delete"
	if !erase {
		call = "delete without erasing"
	}
	f.called(call, name)
	return f.deleted, f.deleteErr
}

func (f *fakeVolumes) Erase(_ context.Context, v volume.Volume, _ volume.EraseRate) error {
	f.called("erase", v.UUID)
	return f.eraseErr
}

func (f *fakeVolumes) MountedAt(volume.Volume) []mount.Point { return []mount.Point{{Path: "/mnt/db"}} }

func TestVolumeCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	f := &fakeVolumes{volume: volume.Volume{Name: "db", Type: volume.TypeLVM, Size: pmem.GiB, State: volume.Ready, Device: "/dev/mapper/pmemvg-db"}}
	sh := newShell(f, "")
	sh.ok(t, "volume create db --type lvm --size 1Gi --fs xfs --mount "+path)
	assert.Equal(t, []string{"create db", "mount db " + path + " xfs"}, f.calls)
	assert.Equal(t, volume.AsLongAsItTakes, f.spec.SpaceWait)
	assert.Equal(t, "VOLUME   TYPE   SIZE    STATE   DEVICE                  MOUNTED ON\n"+
		"db       lvm    1 GiB   ready   /dev/mapper/pmemvg-db   /mnt/db\n", sh.stdout.String())
	assert.Empty(t, sh.stderr.String())

	f.exists = true
	sh.ok(t, "volume create db --type lvm --size 1Gi")
	assert.Equal(t, "volume db already exists\n", sh.stderr.String())

	sh.ok(t, "volume create db --type lvm --size max --limit 2Gi")
	assert.Equal(t, volume.Spec{Name: "db", Type: volume.TypeLVM, Max: true, Limit: 2 * pmem.GiB, FS: mount.Ext4}, f.spec, "it does not wait for space")

	f.mountErr = errs.New(errs.Unsupported, path, "no DAX", "use another kernel")
	assert.Equal(t, exitUnsupported, sh.run("volume create db --type lvm --size 1Gi --mount "+path))
	assert.Contains(t, sh.stderr.String(), "volume db: exists, but is not mounted: "+path+": no DAX\n  next: use another kernel\n")
	assert.Empty(t, sh.stdout.String())

	f.createErr, f.calls = errs.New(errs.NoSpace, "volume db", "does not fit", ""), nil
	assert.Equal(t, exitNoSpace, sh.run("volume create db --type lvm --size 1Gi --mount "+path))
	assert.Equal(t, []string{"create db"}, f.calls)
	assert.Equal(t, exitNoSpace, sh.run("volume clone db copy"))
}

func TestVolumeClone(t *testing.T) {
	f := &fakeVolumes{volume: volume.Volume{Name: "copy"}}
	sh := newShell(f)
	sh.ok(t, "volume clone db copy -o json")
	assert.Equal(t, []string{"clone db copy"}, f.calls)
	assert.Equal(t, volume.Spec{Name: "copy", SpaceWait: volume.AsLongAsItTakes}, f.spec)
	assert.Contains(t, sh.stdout.String(), `"name": "copy"`)
}

func TestVolumeExpand(t *testing.T) {
	f := &fakeVolumes{volume: volume.Volume{Name: "db", Type: volume.TypeLVM, Size: 16 * pmem.MiB, Stripes: 2}}
	sh := newShell(f)
	sh.ok(t, "volume expand db --size 13Mi")
	assert.Empty(t, sh.stderr.String(), "less than a step of both stripes")
	sh.ok(t, "volume expand db --size 12Mi")
	assert.Equal(t, "volume db has 16 MiB, more than the requested 12 MiB; a volume never shrinks\n", sh.stderr.String())
	sh.ok(t, "volume expand db --size max -o json")
	assert.Empty(t, sh.stderr.String())
	assert.Contains(t, sh.stdout.String(), `"size": 16777216`)
	assert.Equal(t, []string{"expand db 13 MiB", "expand db 12 MiB", "expand db to the maximum"}, f.calls)
	f.createErr = errs.New(errs.FixedSize, "volume db", "is a direct volume", "")
	assert.Equal(t, exitUnsupported, sh.run("volume expand db --size max"))
}

func TestVolumeMount(t *testing.T) {
	f := &fakeVolumes{volume: volume.Volume{Name: "db", Device: "/dev/pmem0", Health: "has 8 bad blocks"}}
	sh := newShell(f, "")
	sh.ok(t, "volume mount db /mnt/db")
	assert.Equal(t, "/dev/pmem0 is mounted on /mnt/db\nvolume db: has 8 bad blocks\n", sh.stderr.String())
	sh.ok(t, "volume umount db --path /mnt/a")
	assert.Equal(t, "/mnt/a unmounted\n/mnt/b unmounted\n", sh.stderr.String())
	assert.Equal(t, []string{"mount db /mnt/db ", "unmount db /mnt/a"}, f.calls)
	f.unmountErr = errs.New(errs.InUse, "volume db", "is busy", "")
	assert.Equal(t, exitInUse, sh.run("volume unmount db"))
}

func TestVolumeDelete(t *testing.T) {
	missing := errs.New(errs.NotFound, "volume db", "does not exist", "")
	busy := errs.New(errs.InUse, "volume db", "is busy", "")
	one := []volume.Volume{{UUID: "u"}}
	for name, c := range map[string]struct {
		flags   string
		answers []string
		service fakeVolumes
		code    int
		calls   []string
		stderr  string
	}{
		"force":            {flags: "--force", service: fakeVolumes{deleted: one}, calls: []string{"delete db", "erase u"}},
		"yes":              {answers: []string{"yes"}, service: fakeVolumes{deleted: one}, calls: []string{"delete db", "erase u"}, stderr: "Type yes to continue: volume db deleted\n"},
		"no":               {answers: []string{"no"}, code: exitAborted, stderr: "Volume db and its data will be lost. Type yes to continue: pmemctl: nothing was changed"},
		"no terminal":      {code: exitAborted, stderr: "Cannot prompt"},
		"no erase":         {flags: "--force --no-erase", calls: []string{"delete without erasing db"}},
		"later":            {flags: "--force --wait=false", answers: []string{""}, service: fakeVolumes{deleted: one}, calls: []string{"delete db"}, stderr: "volume db deleted; its space is free when it is erased"},
		"nothing to erase": {flags: "--force --wait=false", answers: []string{""}, calls: []string{"delete db"}, stderr: "volume db deleted\n"},
		"missing":          {flags: "--force", service: fakeVolumes{deleteErr: missing}, code: exitNotFound, calls: []string{"delete db"}, stderr: "does not exist"},
		"ignore missing":   {flags: "--force --ignore-missing", service: fakeVolumes{deleteErr: missing}, calls: []string{"delete db"}},
		"unmount":          {flags: "--force --unmount", service: fakeVolumes{deleted: one}, calls: []string{"unmount db ", "delete db", "erase u"}},
		"partly deleted":   {flags: "--force --unmount", service: fakeVolumes{deleted: one, unmountErr: missing}, calls: []string{"unmount db ", "delete db", "erase u"}},
		"busy":             {flags: "--force --unmount --ignore-missing", service: fakeVolumes{unmountErr: busy}, code: exitInUse, calls: []string{"unmount db "}, stderr: "is busy"},
		"not erased":       {flags: "--force", service: fakeVolumes{deleted: one, eraseErr: errs.New(errs.Damaged, "volume db", "cannot be erased", "")}, code: exitDamaged, calls: []string{"delete db", "erase u"}, stderr: "cannot be erased"},
	} {
		f := c.service
		sh := newShell(&f, c.answers...)
		assert.Equal(t, c.code, sh.run("volume delete db "+c.flags), name)
		assert.Equal(t, c.calls, f.calls, name)
		assert.Contains(t, sh.stderr.String(), c.stderr, name)
		if c.stderr == "" {
			assert.Empty(t, sh.stderr.String(), name)
		}
	}
	f := fakeVolumes{}
	sh := newShell(&f, "yes", "no")
	sh.stdin = oneByOne{sh.stdin}
	assert.Equal(t, exitAborted, sh.run("volume delete a b"), "each volume is confirmed")
	assert.Equal(t, []string{"delete a"}, f.calls)
	assert.Equal(t, exitInvalid, sh.run("volume delete a/b --force"))
}

// oneByOne reads one byte at a time: like a terminal, it does not return the next line early.
type oneByOne struct {
	r interface{ Read([]byte) (int, error) }
}

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

func TestDryRun(t *testing.T) {
	sh := newModelShell(t)
	sh.ok(t, "volume create db --type direct --size 100Mi --dry-run")
	assert.Regexp(t, `(?s)^volume db \(direct, in region region0\) would be created
  requested         100 MiB \(104857600 bytes\)
  usable            .*
  raw               .*
  overhead          .*
  free after \(raw\)  .*
  largest possible  .*
$`, sh.stdout.String())
	sh.ok(t, "vg init --percent 50", "volume create db --type lvm --size 100Mi", "volume create db --type lvm --size 100Mi --dry-run")
	assert.Contains(t, sh.stdout.String(), "volume db (lvm, in volume group pmemvgregion0) already exists as requested\n")
	assert.NotContains(t, sh.stdout.String(), "largest possible")
	sh.ok(t, "volume create db --type lvm --size 100Mi --dry-run -o yaml")
	assert.Contains(t, sh.stdout.String(), "plan:\n")
	require.Equal(t, exitNoSpace, sh.run("volume create big --type lvm --size 100Gi --dry-run"))
}

func TestNoteHealth(t *testing.T) {
	for name, c := range map[string]struct {
		v    volume.Volume
		want string
	}{
		"healthy":      {volume.Volume{Name: "db"}, ""},
		"bad":          {volume.Volume{Name: "db", Health: "bad"}, "volume db: bad\n"},
		"being erased": {volume.Volume{Name: "db", Health: "is being erased", Erasing: &volume.Erasure{}}, ""},
		"not erased":   {volume.Volume{Name: "db", Health: "cannot be erased", Erasing: &volume.Erasure{Failed: "error"}}, "volume db: cannot be erased\n"},
	} {
		sh := newShell(nil)
		sh.noteHealth(c.v)
		assert.Equal(t, c.want, sh.stderr.String(), name)
	}
}
