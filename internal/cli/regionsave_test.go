package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// fakeCXL is a host with CXL regions.
type fakeCXL struct {
	regions  []cxl.Region
	restored []cxl.Restored
	asked    []cxl.Region
	dry      bool
	waited   bool
}

func (f *fakeCXL) Regions() []cxl.Region { return f.regions }

func (f *fakeCXL) Await(ctx context.Context, _ []cxl.Region) { f.waited = ctx.Err() == nil }

func (f *fakeCXL) Restore(_ context.Context, regions []cxl.Region, dry bool) []cxl.Restored {
	f.asked, f.dry = regions, dry
	return f.restored
}

// changeable is a service that can be changed.
type changeable struct{ service }

func (changeable) ChangeHost(_ context.Context, do func() error) error { return do() }

func cxlRegion(granularity uint64, serials ...cxl.Hex) cxl.Region {
	r := cxl.Region{Dev: "region0", Decoder: "decoder0.0", Window: 1, Granularity: granularity, Size: pmem.GiB, UUID: "151f6238-61f4-4aad-a85f-fe7c8f74c235", Cookie: 7}
	for _, s := range serials {
		r.Targets = append(r.Targets, cxl.Target{Serial: s})
	}
	return r
}

func TestRegionSaveFlags(t *testing.T) {
	testFlags(t, newRegionSaveCommand, []flagTest[regionSaveOptions]{
		{args: "", want: regionSaveOptions{file: cxl.SavedFile, output: outputTable}},
		{args: "--force -o json", want: regionSaveOptions{file: cxl.SavedFile, force: true, output: outputJSON}},
		{args: "region0", err: "unknown command"},
	})
	testFlags(t, newRegionRestoreCommand, []flagTest[regionRestoreOptions]{
		{args: "", want: regionRestoreOptions{file: cxl.SavedFile, output: outputTable}},
		{args: "--dry-run --wait 30s", want: regionRestoreOptions{file: cxl.SavedFile, dry: true, wait: 30 * time.Second, output: outputTable}},
		{args: "--wait soon", err: "invalid argument"},
	})
}

func TestRegionSave(t *testing.T) {
	etc := t.TempDir()
	file := filepath.Join(etc, "etc/pmemctl/cxl-regions.json")
	require.NoError(t, os.MkdirAll(filepath.Join(etc, "etc/systemd/system"), 0o700))
	f := &fakeCXL{}
	sh := newShell(changeable{})
	sh.cxl, sh.ndctl = f, fakePMEM{}
	save := func(force bool) error {
		return sh.saveRegions(context.Background(), &regionSaveOptions{host: hostconf.Host{Root: etc}, file: file, force: force})
	}
	saved := func() []cxl.Region {
		regions, err := cxl.Load(file)
		require.NoError(t, err)
		return regions
	}
	unit := filepath.Join(etc, "etc/systemd/system/sysinit.target.wants/pmemctl-regions.service")

	require.ErrorContains(t, save(false), "there are none to save")
	f.regions = []cxl.Region{cxlRegion(1024, 0x12, 0x34)}
	require.NoError(t, save(false))
	require.NoError(t, save(false))
	require.Len(t, saved(), 1)
	target, err := os.Readlink(unit)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(etc, target))
	require.NoError(t, err)
	assert.Regexp(t, `(?m)^ExecStart=/.* region restore --wait 30s$`, string(text))
	assert.Contains(t, string(text), "Before=lvm2-")

	// What was saved is not lost by accident.
	before := saved()
	for want, regions := range map[string][]cxl.Region{
		"saved region on 0x12,0x34: does not exist":                                 nil,
		"exists as region0 with granularity 2048 instead of 1024":                   {cxlRegion(2048, 0x12, 0x34)},
		"exists as region0 with devices 0x34,0x12 instead of 0x12,0x34":             {cxlRegion(1024, 0x34, 0x12)},
		"saved region on 0x12,0x34: exists as region0 with devices 0x12 instead of": {cxlRegion(1024, 0x12)},
	} {
		f.regions = regions
		err := save(false)
		require.ErrorContains(t, err, want)
		assert.True(t, errs.Is(err, errs.Conflict))
		assert.Equal(t, before, saved())
	}
	// Nor is one saved whose content is scrambled.
	const id = "7d4be2de-50d4-4d3a-93a2-b9f3c7a3bd0a"
	sh.ndctl = fakePMEM{Namespaces: []pmem.Namespace{{Dev: "namespace0.0", Name: "pmemctl:db", Region: "region0", State: pmem.StateEnabled, Mode: pmem.ModeFSDAX, UUID: id, InfoUUID: "b7526976-42d6-59c1-b807-76e0e2e1f338", Granularity: 2048}}}
	f.regions = []cxl.Region{cxlRegion(2048, 0x12, 0x34)}
	require.ErrorContains(t, save(true), "region region0: is not saved: its namespace namespace0.0 is scrambled: the interleave granularity of region0 was 1024 bytes")
	assert.Equal(t, before, saved())

	// Without force, nor what seems to be wrong.
	for want, s := range map[string]fakePMEM{
		"is not saved: it has 1 GiB in namespaces that are not visible":     {Regions: []pmem.Region{{Dev: "region0", HiddenSize: pmem.GiB}}},
		"is not saved: its namespace namespace0.0 did not come up as fsdax": {Namespaces: []pmem.Namespace{{Dev: "namespace0.0", Name: "pmemctl:db", State: pmem.StateEnabled, Mode: pmem.ModeRaw, Granularity: 2048}}},
	} {
		f.regions = []cxl.Region{cxlRegion(1024, 0x12, 0x34)}
		sh.ndctl = s
		require.ErrorContains(t, save(false), want)
		require.NoError(t, save(true))
	}
	f.regions = []cxl.Region{cxlRegion(2048, 0x12, 0x34)}
	sh.ndctl = fakePMEM{}
	require.NoError(t, save(true))
	assert.Equal(t, uint64(2048), saved()[0].Granularity)
	f.regions = nil
	require.NoError(t, save(true))
	assert.NoFileExists(t, file)

	require.NoError(t, os.MkdirAll(filepath.Join(etc, "sys/class/block"), 0o700))
	changes, err := hostconf.Host{Root: etc, Kernel: etc}.Remove(context.Background())
	require.NoError(t, err)
	assert.Len(t, changes, 2)
	_, err = os.Lstat(unit)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.NoFileExists(t, filepath.Join(etc, target))
}

func TestRegionRestore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cxl-regions.json")
	region := cxlRegion(1024, 0x12, 0x34)
	f := &fakeCXL{restored: []cxl.Restored{
		{Region: region, Exists: true},
		{Region: region, Command: []string{"create-region", "-m"}},
	}}
	sh := newShell(changeable{})
	sh.cxl = f
	restore := func(o regionRestoreOptions) error {
		sh.stdout.Reset()
		o.file = file
		return sh.restoreRegions(context.Background(), &o)
	}
	require.ErrorContains(t, restore(regionRestoreOptions{}), "none are saved")
	require.NoError(t, cxl.Save(file, []cxl.Region{region}))
	require.NoError(t, restore(regionRestoreOptions{}))
	assert.False(t, f.dry)
	assert.Len(t, f.asked, 1)
	require.NoError(t, restore(regionRestoreOptions{dry: true, wait: time.Minute}))
	assert.True(t, f.dry)
	assert.True(t, f.waited)
	f.restored = append(f.restored, cxl.Restored{Region: region, Err: errs.New(errs.Conflict, "CXL region", "differs", "")})
	require.ErrorContains(t, restore(regionRestoreOptions{wait: time.Hour}), "differs", "that does not go away")
	begun := time.Now()
	f.restored[2].Err = errs.New(errs.NotFound, "memory device", "differs", "")
	require.ErrorContains(t, restore(regionRestoreOptions{wait: time.Second}), "differs")
	assert.Greater(t, time.Since(begun), time.Second, "it tries again")
	require.ErrorContains(t, restore(regionRestoreOptions{}), "differs")

	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	require.ErrorContains(t, restore(regionRestoreOptions{}), "is not what pmemctl region save wrote")
}
