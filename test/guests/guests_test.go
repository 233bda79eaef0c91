//go:build lab

// Package guests boots lab guests and runs the compiled test binaries in them,
// or drives a guest from outside where it has to be killed or booted again.
package guests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/test/lab"
	"github.com/pmemctl/pmemctl/test/testenv"
)

func TestMain(m *testing.M) {
	code := m.Run()
	printTimes(os.Stdout)
	fmt.Println(lab.Summary())
	os.Exit(code)
}

// repo is the directory of the module; it has the same path in the guest.
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
	begun := time.Now()
	m, err := lab.Boot(ctx, cfg)
	took(1, "boot", time.Since(begun))
	require.NoError(t, err, "the guest must boot: nothing is skipped for want of QEMU or of a kernel")
	t.Cleanup(m.Kill)
	return m
}

// runTests runs a compiled test binary in the guest; its output is this test's.
func runTests(t *testing.T, m *lab.Machine, binary string, tests, skip []string) {
	t.Helper()
	// A guest that hangs must not take the time of the others.
	limit := time.Hour
	if testenv.IsCampaign() {
		limit = 4 * time.Hour
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	args := []string{filepath.Join(repo(t), "build/guest", binary+".test"), "-test.v", "-test.count=1", "-test.timeout=4h", "-test.run", pattern(tests)}
	if len(skip) > 0 {
		args = append(args, "-test.skip", pattern(skip))
	}
	heard := &timesIn{out: os.Stdout}
	err := m.Run(ctx, lab.Command{Args: args, Env: testenv.ForGuest(), Stdout: heard, Stderr: os.Stderr})
	if err != nil {
		t.Errorf("%s in the guest: %v\nkernel:\n%s", binary, err, m.ConsoleTail())
	}
	for _, name := range tests {
		assert.Contains(t, heard.ended, name, "%s has no such test", binary)
	}
}

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

// TestGuests boots each guest of the table and runs in it what is to be run now.
func TestGuests(t *testing.T) {
	for _, g := range table {
		if run := g.run(); run != nil {
			t.Run(g.name, func(t *testing.T) {
				begun := time.Now()
				defer func() { took(0, g.name, time.Since(begun)) }()
				run(t)
			})
		}
	}
}

// run is what there is to do in the guest now; nil if nothing is.
func (g guest) run() func(t *testing.T) {
	if g.drive != nil || g.driveRest != nil {
		if testenv.IsRest() {
			return g.driveRest
		}
		return g.drive
	}
	idle := func(p pass) bool { tests, _ := p.selected(); return len(tests) == 0 }
	passes := slices.DeleteFunc(slices.Clone(g.passes), idle)
	if len(passes) == 0 {
		return nil
	}
	return func(t *testing.T) {
		m := boot(t, g.config)
		for _, p := range passes {
			tests, skip := p.selected()
			runTests(t, m, p.binary, tests, skip)
		}
	}
}

// TestTable: each test that is compiled for a guest is in exactly one row, and so is each
// directory of scripts.
func TestTable(t *testing.T) {
	rows := map[string]int{} // in how many rows a test is, by binary and name
	for _, g := range table {
		for _, p := range g.passes {
			for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(p.short, p.rest, p.long)))) {
				if top, _, below := strings.Cut(name, "/"); below && top != "TestScripts" || strings.Count(name, "/") > 1 {
					isBelow := func(other string) bool { return strings.HasPrefix(name, other+"/") }
					assert.True(t, slices.ContainsFunc(slices.Concat(p.short, p.rest, p.long), isBelow), "%s is below no other test", name)
					continue
				}
				rows[p.binary+" "+name]++
			}
		}
	}
	want := map[string]int{}
	for _, binary := range []string{"integration", "dax", "ndctl"} {
		out, err := exec.Command(filepath.Join(repo(t), "build/guest", binary+".test"), "-test.list", "^Test").Output()
		require.NoError(t, err, "next: make guest-tests")
		for _, name := range strings.Fields(string(out)) {
			if (binary == "integration" || strings.HasPrefix(name, "TestGuest")) && name != "TestScripts" && !slices.Contains(driven, name) {
				want[binary+" "+name] = 1
			}
		}
	}
	dirs, err := os.ReadDir(filepath.Join(repo(t), "test/integration/testdata/script"))
	require.NoError(t, err)
	for _, dir := range dirs {
		want["integration TestScripts/"+dir.Name()] = 1
	}
	rows["ndctl TestGuestSysfsMatchesLibndctl"] = 1 // for all kinds of regions
	assert.Equal(t, want, rows)
}
