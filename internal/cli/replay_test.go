package cli

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/report"
)

var update = flag.Bool("update", false, "write the expected output of archives")

// replayed are the commands that show an archive.
var replayed = []string{
	"tree", "bus list", "dimm list -o wide", "region list -o wide", "namespace list -o wide", "vg list -o wide", "vg check",
	"volume list -o wide", "capacity -o wide", "doctor",
}

// archives are reports of hosts of all kinds: those of the lab's guests, and of users. To add one,
// put it there and run: go test ./internal/cli -run TestReplay -update
func archives(t *testing.T) []string {
	files, err := filepath.Glob("testdata/reports/*.tar.gz")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// TestReplay: each command shows the host of an archive as it was.
func TestReplay(t *testing.T) {
	for _, archive := range archives(t) {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".tar.gz"), func(t *testing.T) {
			var text strings.Builder
			for _, command := range replayed {
				sh := newShell(nil)
				sh.root = func() bool { return false }
				code := sh.run(command + " --from " + archive)
				fmt.Fprintf(&text, "$ pmemctl %s\n%s%s[exit code %d]\n\n", command, sh.stdout.String(), sh.stderr.String(), code)
			}
			golden := strings.TrimSuffix(archive, ".tar.gz") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(text.String()), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			assert.Equal(t, string(want), text.String())
		})
	}
}

// TestFromBadArchive: a command that cannot read its archive does not show this host.
func TestFromBadArchive(t *testing.T) {
	sh := newModelShell(t)
	for _, command := range replayed {
		assert.Equal(t, exitNotFound, sh.run(command+" --from testdata/missing.tar.gz"), command)
		assert.Empty(t, sh.stdout.String(), command)
	}
	assert.Equal(t, exitInvalid, sh.run("volume delete db --from x.tar.gz"), "a change has no --from")
}

func TestReportCommand(t *testing.T) {
	collector := report.Collector{Root: t.TempDir(), Run: func(context.Context, string, ...string) ([]byte, error) { return []byte("says so"), nil }}
	sh := newModelShell(t)
	sh.collect = collector
	require.Equal(t, exitOK, sh.run("vg init --percent 50"))
	require.Equal(t, exitOK, sh.run("volume create db --type lvm --size 1Gi"))
	archive := filepath.Join(t.TempDir(), "r.tar.gz")
	require.Equal(t, exitOK, sh.run("report --file "+archive), sh.stderr.String())
	assert.Contains(t, sh.stdout.String(), "state.json")
	assert.Contains(t, sh.stdout.String(), "written to "+archive)
	require.Equal(t, exitConflict, sh.run("report --file "+archive))
	require.Equal(t, exitOK, sh.run("volume list"))
	live := sh.stdout.String()
	require.Equal(t, exitOK, sh.run("volume delete db --force"))
	require.Equal(t, exitOK, sh.run("volume list --from "+archive))
	assert.Equal(t, live, sh.stdout.String())

	hashed := filepath.Join(t.TempDir(), "h.tar.gz")
	sh = newModelShell(t)
	sh.collect = collector
	require.Equal(t, exitOK, sh.run("vg init --percent 50"))
	require.Equal(t, exitOK, sh.run("volume create ledger --type direct --size 1Gi"))
	require.Equal(t, exitOK, sh.run("report --hash-names --file "+hashed), sh.stderr.String())
	sh.run("tree --from " + hashed)
	assert.NotContains(t, sh.stdout.String(), "ledger")
	assert.Contains(t, sh.stdout.String(), "volume x")
	sh.root = func() bool { return false }
	assert.Equal(t, exitPermission, sh.run("report"))
}
