package cli

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/model"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/persistentvolume"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func TestAdoptFlags(t *testing.T) {
	testFlags(t, newAdoptCommand, []flagTest[adoptOptions]{
		{args: "", want: adoptOptions{objects: []string{}, output: outputTable}},
		{args: "pmemvgregion0 namespace1.0=db --dry-run -o json", want: adoptOptions{objects: []string{"pmemvgregion0", "namespace1.0=db"}, dryRun: true, output: outputJSON}},
		{args: "db --raw", want: adoptOptions{objects: []string{"db"}, raw: true, output: outputTable}},
		{args: "--force", want: adoptOptions{objects: []string{}, force: true, output: outputTable}},
		{args: "--yes", err: "unknown flag: --yes"},
	})
	from := []string{persistentvolume.PMEMCSI, persistentvolume.Alibaba}
	testFlags(t, newAdoptPVCommand, []flagTest[adoptPVOptions]{
		{args: "", want: adoptPVOptions{rewriting: persistentvolume.Rewriting{From: from, Driver: defaultDriver, TopologyKey: defaultDriver + "/node"}}},
		{args: "a.json --from x,y --driver d", want: adoptPVOptions{file: "a.json", rewriting: persistentvolume.Rewriting{From: []string{"x", "y"}, Driver: "d", TopologyKey: "d/node"}}},
		{args: "--topology-key zone", want: adoptPVOptions{rewriting: persistentvolume.Rewriting{From: from, Driver: defaultDriver, TopologyKey: "zone"}}},
		{args: "a b", err: "accepts at most 1 arg"},
	})
}

// adoptable returns a shell on a host with a volume group of pmem-csi, a namespace with a file
// system, and one without.
func adoptable(t *testing.T, answers ...string) *shell {
	t.Helper()
	h := model.New(t.TempDir(), 4*pmem.GiB, 4*pmem.GiB)
	s := h.Service()
	made := func(region, name string) string {
		n, err := s.CreateNamespace(context.Background(), volume.NamespaceRequest{Region: region, Mode: pmem.ModeFSDAX, Size: 64 * pmem.MiB, Name: name})
		require.NoError(t, err)
		return "/dev/" + n.Blockdev
	}
	require.NoError(t, h.CreateForeignVG("ndbus0region0fsdax", map[string]uint64{"pvc-ab-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6": 16 * pmem.MiB}, made("region0", "pmem-csi")))
	require.NoError(t, s.Mounts.Format(context.Background(), mount.Space{Device: "/dev/mapper/ndbus0region0fsdax-pvc--ab--1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6", Size: 16 * pmem.MiB}, mount.Ext4))
	require.NoError(t, s.Mounts.Format(context.Background(), mount.Space{Device: made("region1", "db"), Size: 64 * pmem.MiB}, mount.Ext4))
	made("region1", "")
	sh := newShell(s, answers...)
	sh.host, sh.ndctl = s, s.NDCTL
	return sh
}

func TestAdopt(t *testing.T) {
	const volumes = "pvc-ab-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718"
	const plan = `OBJECT               KIND           MADE BY    REGIONS   SIZE     VOLUMES                                                  ADOPTED    REASON
ndbus0region0fsdax   volume group   pmem-csi   region0   72 MiB   pvc-ab-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718   possible   -
namespace1.0         namespace      -          region1   78 MiB   db                                                       possible   -
namespace1.1         namespace      -          region1   78 MiB   -                                                        no         has no name
`
	sh := adoptable(t)
	sh.ok(t, "adopt --dry-run")
	assert.Equal(t, plan, sh.stdout.String())
	assert.Equal(t, exitAborted, sh.run("adopt"))
	assert.Contains(t, sh.stderr.String(), "The volume group ndbus0region0fsdax, named as pmem-csi does, will be pmemctl's, with its volumes "+volumes+".")
	assert.Equal(t, exitInvalid, sh.run("adopt namespace1.1 --force"))
	assert.Contains(t, sh.stderr.String(), "namespace namespace1.1: cannot be adopted: it has no name\n  next: give it one: pmemctl adopt namespace1.1=NAME\n")
	assert.Equal(t, exitInvalid, sh.run("adopt =db"))
	sh.ok(t, "volume list -o json")
	assert.Contains(t, sh.stdout.String(), `"volumes": []`)
	sh.ok(t, "adopt --force", "volume list")
	assert.Contains(t, sh.stdout.String(), volumes)
	assert.Contains(t, sh.stdout.String(), "db ")
	sh.ok(t, "adopt", "adopt namespace1.1=raw --force", "volume show raw", "adopt namespace1.1 --force", "adopt db")
	assert.Contains(t, sh.stderr.String(), "nothing to do: db: already pmemctl's")
	assert.Equal(t, exitInvalid, sh.run("adopt --raw"))
	sh.ok(t, "adopt")
	assert.Contains(t, sh.stderr.String(), "nothing to do")
	sh.ok(t, "adopt -o json")
	assert.Contains(t, sh.stdout.String(), `"adoptions": []`)
}

// TestAdoptAsks: each thing is asked about.
func TestAdoptAsks(t *testing.T) {
	sh := adoptable(t, "no", "yes")
	sh.ok(t, "adopt", "volume list")
	assert.NotContains(t, sh.stdout.String(), "pvc-ab")
	assert.Contains(t, sh.stdout.String(), "db ")
	sh = adoptable(t, "no", "")
	assert.Equal(t, exitAborted, sh.run("adopt"))
	assert.Contains(t, sh.stderr.String(), "nothing was changed")
	sh.ok(t, "adopt --dry-run")
	assert.Contains(t, sh.stdout.String(), "possible")
}

func TestAdoptPV(t *testing.T) {
	const old = "../persistentvolume/testdata/pmem-csi.json"
	want, err := os.ReadFile("../persistentvolume/testdata/pmem-csi.want.json")
	require.NoError(t, err)
	sh := newShell(nil)
	sh.ok(t, "adopt-pv "+old)
	assert.Equal(t, string(want), sh.stdout.String())
	assert.Equal(t, exitNotFound, sh.run("adopt-pv --from other "+old))
	assert.Equal(t, exitNotFound, sh.run("adopt-pv "+filepath.Join(t.TempDir(), "none")))
	assert.Equal(t, exitInvalid, sh.run("adopt-pv"))
	assert.Equal(t, exitInvalid, sh.run("adopt-pv --from d --driver d "+old))
	sh.ok(t, "adopt-pv --driver localplugin.csi.alibabacloud.com "+old)
	sh.ok(t, "adopt-pv --rename pvc-7b-1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6=db "+old)
	assert.Contains(t, sh.stdout.String(), `"volumeHandle": "db"`)
	broken := filepath.Join(t.TempDir(), "pv.json")
	require.NoError(t, os.WriteFile(broken, []byte(`{"kind":"PersistentVolume","metadata":{"name":"a"},"spec":{"csi":{"driver":"pmem-csi.intel.com","volumeHandle":"v"}}}`), 0o600))
	assert.Equal(t, exitNotFound, sh.run("adopt-pv "+broken))
	assert.Contains(t, sh.stderr.String(), "PersistentVolume a is not rewritten: it has no node affinity")
}
