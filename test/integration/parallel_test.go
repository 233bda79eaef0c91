//go:build guest

package integration

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestParallelCreates starts ten pmemctl at once, some on the same name, more than there is room
// for: each is done, or refused for that reason; nothing is left over. Twice as many take four
// times as long.
func TestParallelCreates(t *testing.T) {
	require.NoError(t, resetPMEM())
	out, err := pmemctl(nil, "vg", "init", "--size", "80Mi", "region0")
	require.NoError(t, err, out)
	const noSpace = 5
	codes := make([]int, 10)
	outputs := make([]string, len(codes))
	name := func(i int) string { return fmt.Sprintf("v%d", i%8) } // two pairs are the same
	var wg sync.WaitGroup
	for i := range codes {
		wg.Go(func() {
			kind := "lvm"
			if i%8%2 == 1 {
				kind = "direct"
			}
			out, err := pmemctl(nil, "volume", "create", name(i), "--type", kind, "--size", "24Mi")
			codes[i], outputs[i] = exitCode(err), out
		})
	}
	wg.Wait()
	have := map[string]listed{}
	for _, v := range volumes(t) {
		assert.Equal(t, "ready", v.State, v.Name)
		_, twice := have[v.Name]
		assert.False(t, twice, "two volumes named %s", v.Name)
		have[v.Name] = v
	}
	done := 0
	for i, code := range codes {
		_, exists := have[name(i)]
		switch code {
		case 0:
			done++
			assert.True(t, exists, "%s was made", name(i))
		case noSpace:
			assert.False(t, exists, "%s was refused", name(i))
			assert.Contains(t, outputs[i], "does not fit")
		default:
			assert.Fail(t, "neither done nor refused", "%s: exit code %d: %s", name(i), code, outputs[i])
		}
	}
	// All four direct ones fit, and as many of the four lvm ones as the group holds.
	size, err := exec.Command("sh", "-c", "vgs --noheadings --units b --nosuffix -o vg_size pmemvgregion0").Output()
	require.NoError(t, err)
	bytes, err := strconv.Atoi(strings.TrimSpace(string(size)))
	require.NoError(t, err)
	require.Less(t, bytes/(24<<20), 4, "more is asked for than there is room")
	assert.Len(t, have, 4+bytes/(24<<20))
	t.Logf("%d of %d done, %d volumes", done, len(codes), len(have))

	// And all deleted at once.
	for n := range have {
		wg.Go(func() {
			out, err := pmemctl(nil, "volume", "delete", n, "--force")
			assert.NoError(t, err, out)
		})
	}
	wg.Wait()
	assert.Empty(t, volumes(t))
	out, err = pmemctl(nil, "vg", "remove", "pmemvgregion0")
	assert.NoError(t, err, out)
	list, err := exec.Command("ndctl", "list", "-N").Output()
	require.NoError(t, err)
	assert.Empty(t, strings.TrimSpace(string(list)))
}

// TestSignal interrupts the clearing of a new volume: the exit code of SIGINT,
// and nothing is left.
func TestSignal(t *testing.T) {
	require.NoError(t, resetPMEM())
	for _, args := range [][]string{
		{"volume", "create", "big", "--type", "direct", "--size", "3Gi", "--fs", "none", "--region", "region1"},
		{"volume", "create", "big", "--type", "lvm", "--size", "3Gi", "--fs", "none"},
	} {
		if args[4] == "lvm" {
			out, err := pmemctl(nil, "vg", "init", "region0")
			require.NoError(t, err, out)
		}
		cmd := exec.Command(faultpointsBinary(), args...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		deadline := time.Now().Add(30 * time.Second)
		for begun := false; !begun; {
			require.True(t, time.Now().Before(deadline), "the creation does not begin")
			for _, v := range volumes(t) {
				begun = begun || v.State == "creating"
			}
		}
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		err := cmd.Wait()
		assert.Equal(t, 130, exitCode(err), stderr.String())
		assert.Contains(t, stderr.String(), "volume big: could not be created")
		assert.Empty(t, volumes(t), "nothing is left of it")
	}
}
