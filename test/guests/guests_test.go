//go:build lab

// Package guests boots lab guests and runs the compiled test binaries in them,
// or drives a guest from outside where it has to be killed or booted again.
package guests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab"
)

func TestMain(m *testing.M) {
	code := m.Run()
	fmt.Println(lab.Summary())
	os.Exit(code)
}

// repo is the folder of the module; it has the same path in the guest.
func repo(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	require.NoError(t, err)
	return dir
}

func boot(t *testing.T, cfg lab.Config) *lab.Machine {
	t.Helper()
	if cfg.Dir == "" {
		dir, err := lab.TempDir()
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		cfg.Dir = dir
	}
	cfg.Path = filepath.Join(repo(t), "build")
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // with a kernel to fetch
	defer cancel()
	m, err := lab.Boot(ctx, cfg)
	require.NoError(t, err, "the guest must boot: nothing is skipped for want of QEMU or of a kernel")
	t.Cleanup(m.Kill)
	return m
}

// runTests runs a compiled test binary in the guest; its output is this test's.
func runTests(t *testing.T, m *lab.Machine, binary string, env []string, args ...string) {
	t.Helper()
	// A guest that hangs must not take the time of the others.
	limit := time.Hour
	if longForm() {
		limit = 4 * time.Hour
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	err := m.Run(ctx, lab.Command{
		Args:   append([]string{filepath.Join(repo(t), "build/guest", binary), "-test.v", "-test.count=1"}, args...),
		Env:    append(env, "PMEMLAB_SOURCE="+filepath.Join(repo(t), "test/integration"), AllEnv+"="+os.Getenv(AllEnv)),
		Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		t.Errorf("%s in the guest: %v\nkernel:\n%s", binary, err, m.ConsoleTail())
	}
}

func scripts(dir string) []string { return []string{"PMEMLAB_SCRIPTS=" + dir} }

// guestOutput runs a command that must succeed.
func guestOutput(t *testing.T, m *lab.Machine, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	err := m.Run(ctx, lab.Command{Args: args, Stdout: &stdout, Stderr: &stderr})
	require.NoError(t, err, "%s%s", stdout.String(), stderr.String())
	return stdout.String()
}

// AllEnv asks for what make test leaves to make test-all when it is set.
const AllEnv = "PMEMCTL_ALL"

// CrashEnv asks for the long form of tests when it is set to all.
const CrashEnv = "PMEMCTL_CRASH"

func longForm() bool { return os.Getenv(CrashEnv) == "all" }

func crashEnv() []string { return []string{CrashEnv + "=" + os.Getenv(CrashEnv)} }

func TestGuests(t *testing.T) {
	t.Run("regions with udev", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs()})
		runTests(t, m, "integration.test", scripts("regions"), "-test.run", "Test(Scripts|Parallel|Signal|Upgrade|VGRepair|Troubles|Devices|Erase|NoOldData|Suite)")
		runTests(t, m, "dax.test", nil, "-test.run", "Guest")
		runTests(t, m, "ndctl.test", nil, "-test.run", "Guest")
	})
	t.Run("regions without udev", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs(), NoUdev: true})
		runTests(t, m, "integration.test", scripts("noudev"), "-test.run", "TestScripts")
	})
	t.Run("kinds of regions", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.AllKindsOfDIMMs()})
		runTests(t, m, "integration.test", scripts("kinds"), "-test.run", "TestScripts")
		runTests(t, m, "ndctl.test", nil, "-test.run", "GuestSysfs")
	})
	t.Run("nfit_test", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs(), NFITTest: true})
		runTests(t, m, "integration.test", scripts("nfit"), "-test.run", "TestScripts")
		runTests(t, m, "ndctl.test", nil, "-test.run", "GuestSysfs")
	})
	t.Run("no PMEM", func(t *testing.T) {
		m := boot(t, lab.Config{})
		runTests(t, m, "integration.test", scripts("none"), "-test.run", "TestScripts")
	})
	t.Run("no driver", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs(), NoPMEMModules: true, NoUdev: true})
		runTests(t, m, "integration.test", scripts("nodriver"), "-test.run", "TestScripts")
	})
	t.Run("CSI", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs()})
		sanity := []string{"all lvm mount", "all direct mount"}
		if os.Getenv(AllEnv) != "" {
			sanity = append(sanity, "all lvm block", "direct direct block")
		}
		for _, what := range sanity {
			runTests(t, m, "integration.test", []string{"PMEMLAB_SANITY=" + what}, "-test.run", "TestCSISanity")
		}
		runTests(t, m, "integration.test", crashEnv(), "-test.run", "TestCSI(Container|DAX|Life|RawBlock|Inline|HeldLock|SwappedTarget|Refusals|Surroundings|EraseDoesNotBlock|Idempotence|NoOldData|StatsOfDown)")
		runTests(t, m, "integration.test", nil, "-test.run", "TestHostile(Container)?$")
	})
	t.Run("crash", func(t *testing.T) {
		m := boot(t, lab.Config{DIMMs: lab.TwoEqualDIMMs()})
		runTests(t, m, "integration.test", crashEnv(), "-test.run", "Test(CSI)?Crash", "-test.timeout=4h")
	})
}
