package cli

import (
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"

	"github.com/pmemctl/pmemctl/internal/dax"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// TestComplete: arguments and flags are completed with the objects of the host, as many as the
// command takes.
func TestComplete(t *testing.T) {
	sh := newModelShell(t)
	sh.ok(t, "vg init --percent 50", "volume create db --type lvm --size 16Mi", "volume create web --type direct --size 16Mi")
	sh.dax = &fakeDAX{devices: []dax.Device{{Chardev: "dax0.0"}, {Chardev: "dax1.0"}}}
	const noFiles, directories = ":4", ":16"
	for line, want := range map[string]string{
		"region show":                          "region0 region1 " + noFiles,
		"region show region0":                  noFiles,
		"region enable region0":                "region0 region1 " + noFiles,
		"region init-labels":                   "region0 region1 " + noFiles,
		"vg init":                              "region0 region1 " + noFiles,
		"decommission region0":                 "region0 region1 " + noFiles,
		"adopt":                                noFiles,
		"vg show":                              "pmemvgregion0 pmemvgregion1 " + noFiles,
		"vg extend pmemvgregion0":              noFiles,
		"vg check":                             "pmemvgregion0 pmemvgregion1 " + noFiles,
		"volume show":                          "db web " + noFiles,
		"volume delete db":                     "db web " + noFiles,
		"volume clone db":                      noFiles,
		"volume mount":                         "db web " + noFiles,
		"volume mount db":                      directories,
		"volume create --type lvm --size 1Gi":  noFiles,
		"volume create db --type":              "lvm direct " + noFiles,
		"volume create db --size":              "max " + noFiles,
		"volume expand db --size":              "max " + noFiles,
		"volume create db --region":            "region0 region1 " + noFiles,
		"volume create db --vg":                "pmemvgregion0 pmemvgregion1 " + noFiles,
		"volume create db --fs":                "ext4 xfs none " + noFiles,
		"volume create db --mount":             directories,
		"volume mount db /mnt --fs":            "ext4 xfs " + noFiles,
		"volume list -o":                       "table wide json yaml " + noFiles,
		"namespace show":                       "namespace0.0 namespace0.1 namespace1.0 " + noFiles,
		"namespace list --region":              "region0 region1 " + noFiles,
		"namespace create --mode":              "fsdax devdax sector raw " + noFiles,
		"dax reconfigure --mode devdax":        "dax0.0 dax1.0 " + noFiles,
		"dax reconfigure --mode devdax dax0.0": noFiles,
		"dax reconfigure dax0.0 --mode":        "devdax system-ram " + noFiles,
		"serve-csi --type":                     "lvm direct all " + noFiles,
		"completion":                           "bash zsh fish " + noFiles,
	} {
		root := newRootCommand(sh.app)
		sh.stdout.Reset()
		root.SetArgs(append(append([]string{"__complete"}, strings.Fields(line)...), ""))
		assert.NoError(t, root.Execute(), line)
		assert.Equal(t, want, strings.Join(strings.Fields(sh.stdout.String()), " "), line)
	}
}

// TestCompleteFlags: the help of flags is shown without the quotes that name their values.
func TestCompleteFlags(t *testing.T) {
	sh := newShell(nil)
	root := newRootCommand(sh.app)
	root.SetArgs([]string{"__complete", "volume", "create", "db", "--ty"})
	assert.NoError(t, root.Execute())
	assert.Equal(t, "--type\ttype: lvm or direct\n:4\n", sh.stdout.String())
}

// TestCompleteVGs: foreign groups are not completed, and errors complete nothing.
func TestCompleteVGs(t *testing.T) {
	view := volume.View{PMEM: pmem.System{Namespaces: []pmem.Namespace{{Dev: "namespace0.0", Name: "pmemctl:db"}, {Dev: "namespace0.1", Name: "theirs"}}}, LVM: lvm.State{VGs: []lvm.VG{{Name: "pmemvg", Tags: []string{"pmemctl"}}}}, Foreign: lvm.State{VGs: []lvm.VG{{Name: "theirs"}}}}
	f := newFakeVGs()
	f.look = func(context.Context) (volume.View, error) { return view, nil }
	names, directive := newShell(f).completeVGs(1)(&cobra.Command{}, nil, "")
	assert.Equal(t, []string{"pmemvg"}, names)
	assert.Equal(t, cobra.ShellCompDirectiveNoFileComp, directive)
	names, _ = newShell(f).completeAdoptable(&cobra.Command{}, nil, "")
	assert.Equal(t, []string{"theirs", "namespace0.1"}, names)
	f.look = func(context.Context) (volume.View, error) { return volume.View{}, errBroken }
	names, _ = newShell(f).completeVGs(1)(&cobra.Command{}, nil, "")
	assert.Empty(t, names)
}

func TestCompletionScripts(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o default", "zsh": "#compdef pmemctl", "fish": "complete -c pmemctl"} {
		sh := newShell(nil)
		sh.ok(t, "completion "+shell)
		assert.Contains(t, sh.stdout.String(), want, shell)
	}
	assert.Equal(t, exitInvalid, newShell(nil).run("completion tcsh"))
}
