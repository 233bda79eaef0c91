//go:build guest

// Package integration has the tests that need a real kernel with PMEM. They are
// compiled into one binary, which runs in the guests that test/guests boots; on
// any other machine they refuse to run, since they destroy what is there.
package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/cli"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "-test.list" { // the host checks that each test runs in some guest
		os.Exit(m.Run())
	}
	if host, _ := os.Hostname(); host != "pmemlab" {
		fmt.Fprintln(os.Stderr, "integration: these tests destroy all PMEM of a machine and run in a lab guest only: make test-guest")
		os.Exit(1)
	}
	testscript.Main(m, map[string]func(){
		"pmemctl": func() { os.Exit(cli.Main()) },
	})
}

// built is a program that make guest-tests builds, beside this one.
func built(name string) string {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return filepath.Join(filepath.Dir(self), name)
}

// TestScripts has a subtest for each directory of scripts, which need different guests.
func TestScripts(t *testing.T) {
	scripts := filepath.Join(built("../.."), "test/integration/testdata/script")
	entries, err := os.ReadDir(scripts)
	require.NoError(t, err)
	for _, dir := range entries {
		t.Run(dir.Name(), func(t *testing.T) { runScripts(t, filepath.Join(scripts, dir.Name())) })
	}
}

func runScripts(t *testing.T, dir string) {
	testscript.RunT(oneByOne{t}, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", "/root")
			env.Setenv("FAULTPOINTS", faultpointsBinary())
			nameOddRegions(env)
			return resetPMEM()
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"fails":        fails,
			"holds":        holds,
			"freeslots":    freeSlots,
			"fillmetadata": fillMetadata,
		},
	})
}

// nameOddRegions tells the scripts the numbers of the misaligned region and of
// the one without room for labels: the kernel counts them as it finds them.
func nameOddRegions(env *testscript.Env) {
	sizes, _ := filepath.Glob("/sys/bus/nd/devices/region*/size")
	for _, file := range sizes {
		data, _ := os.ReadFile(file)
		number := strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "region")
		switch strings.TrimSpace(string(data)) {
		case strconv.Itoa(1022 << 20):
			env.Setenv("MISALIGNED", number)
		case strconv.Itoa(1024 << 20):
			env.Setenv("UNLABELLED", number)
		}
	}
}

// oneByOne runs scripts one after the other: they share the guest's PMEM.
type oneByOne struct{ *testing.T }

func (t oneByOne) Parallel() {}
func (t oneByOne) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) {
		begun := time.Now()
		f(oneByOne{t})
		t.Logf("took %.1f s", time.Since(begun).Seconds())
	})
}
func (t oneByOne) Verbose() bool { return testing.Verbose() }

// fails CODE COMMAND...: the command must end with that exit code.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		ts.Fatalf("%v succeeded; exit code %d was expected", args[1:], want)
	case !errors.As(err, &exit):
		ts.Check(err)
	case exit.ExitCode() != want:
		ts.Fatalf("%v: exit code %d, not %d", args[1:], exit.ExitCode(), want)
	}
}

// holds DEVICE PATTERN: whether the text is anywhere on the device.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: holds DEVICE TEXT")
	}
	found, err := deviceHolds(args[0], args[1])
	ts.Check(err)
	if found == neg {
		ts.Fatalf("%s holds %q: %v", args[0], args[1], found)
	}
}

func deviceHolds(device, text string) (bool, error) {
	err := exec.Command("grep", "-q", "-a", "-F", "--", text, device).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

// resetPMEM brings the guest's two equal regions into the state after init-labels,
// with nothing of pmemctl's own code, since that is what is tested.
func resetPMEM() error {
	script := `
set -e
export LC_ALL=C
umount -q /usr/sbin/lvm || true
for dev in $(awk '$3 ~ /^259:|^25[0-9]:/ { print $5 }' /proc/self/mountinfo | sort -r); do umount "$(printf %b "$dev")"; done
any() { [ -e "$1" ]; }
if any /sys/block/pmem* || any /sys/block/dm-* || any /sys/block/loop*/loop; then # each command of LVM takes long
	vgs=$(vgs --noheadings -o vg_name 2>/dev/null)
	if [ -n "$vgs" ]; then vgremove -ff -y $vgs >/dev/null 2>&1 || true; fi # its metadata may be full
	pvs=$(pvs --noheadings -o pv_name 2>/dev/null)
	if [ -n "$pvs" ]; then pvremove -ff -y $pvs >/dev/null 2>&1; fi
fi
rm -rf /run/pmemctl /var/lib/pmemctl
for dir in /sys/bus/nd/devices/region*; do
	region=${dir##*/}
	[ "$(cat $dir/size 2>/dev/null)" = 4294967296 ] || continue
	[ -e $dir/driver ] || ndctl enable-region $region >/dev/null
	if [ "$(cat /sys/bus/nd/devices/$region/nstype)" != 5 ]; then
		ndctl disable-region $region >/dev/null
		for i in 0 1; do
			dimm=$(cut -d, -f1 /sys/bus/nd/devices/$region/mapping$i 2>/dev/null) || continue
			ndctl init-labels -f "$dimm" >/dev/null
		done
		ndctl enable-region $region >/dev/null
	fi
	for size in /sys/bus/nd/devices/$region/namespace*/size; do
		if [ "$(cat "$size")" != 0 ]; then
			ndctl destroy-namespace -f -r $region all >/dev/null
			break
		fi
	done
	[ "$(cat /sys/bus/nd/devices/$region/size)" = "$(cat /sys/bus/nd/devices/$region/available_size)" ]
done
`
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("reset the PMEM: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
