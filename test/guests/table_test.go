//go:build lab

package guests

import (
	"slices"
	"strings"
	"testing"

	"github.com/pmemctl/pmemctl/test/lab"
	"github.com/pmemctl/pmemctl/test/testenv"
)

// guest is a machine and what runs in it. A test of the tags guest or faultpoints that is in no
// row does not run: TestTable finds it.
type guest struct {
	name   string
	config lab.Config
	passes []pass
	// drive, in place of passes, is what make test does from outside, with guests that it
	// cuts off and boots again; driveRest is what make test-rest does.
	drive, driveRest func(t *testing.T)
}

// pass is a run of a compiled test binary.
type pass struct {
	binary string
	// short are the tests of make test, without those of rest that are below one of them.
	short []string
	// rest are the tests, or subtests, that make test-rest runs, and long those that are left to
	// make test-all: CI has no time for them.
	rest, long []string
}

var (
	two = lab.Config{DIMMs: lab.TwoEqualDIMMs()}

	table = []guest{
		{name: "regions", config: two, passes: []pass{
			{"integration", []string{
				"TestSuite", "TestScripts/regions", "TestDevicesGone", "TestEraseLater", "TestNoOldDataThroughFilesystem",
				"TestParallelCreates", "TestSignal", "TestTroublesStopped", "TestUpgrade", "TestUpgradeCSI", "TestVGRepairGone",
			}, []string{
				"TestScripts/regions/adopt", "TestScripts/regions/bad-input", "TestScripts/regions/bench", "TestScripts/regions/damage", "TestScripts/regions/foreign",
				"TestScripts/regions/gone-region", "TestScripts/regions/init-leftovers", "TestScripts/regions/lost-dimm",
				"TestDevicesGoneRegion", "TestDevicesFaults", "TestDevicesRawOrMounted",
				"TestEraseForSpace", "TestEraseBadMedium", "TestEraseCopy",
				"TestNoOldDataThroughFilesystem/lvm_xfs_dax=true",
				"TestTroublesClock", "TestTroublesRunFull", "TestTroublesServerNoFiles",
				"TestVGRepairOneCopy", "TestVGRepairNamesakes", "TestVGRepairKilled", "TestVGRepairRefusals",
			}, []string{
				"TestScripts/regions/full-metadata", "TestDevicesGoneFromSpan", "TestTroublesNoFiles", "TestTroublesTwoServers", "TestVGRepairEveryByte",
				"TestNoOldDataThroughFilesystem/lvm_ext4_dax=true", "TestNoOldDataThroughFilesystem/lvm_ext4_dax=false", "TestNoOldDataThroughFilesystem/direct_xfs_dax=true",
				// The model runs both types; the guest shows with one of them that the model is true.
				"TestSuite/conflicts/direct", "TestSuite/no_space/lvm", "TestSuite/mount_refusals/lvm", "TestSuite/no_erase/direct",
				"TestSuite/give_up/lvm", "TestSuite/unmount_all/direct", "TestSuite/expand_and_clone/direct", "TestSuite/publish/lvm",
				"TestSuite/publish/direct#01", "TestSuite/both_ends/lvm", "TestSuite/largest/direct", "TestSuite/decommission/lvm",
			}},
			{"dax", []string{"TestGuest"}, nil, nil},
			{"ndctl", []string{"TestGuestInfoBlockIsTheKernels", "TestGuestSysfsMatchesLibndctl"}, nil, []string{"TestGuestSnapshotsLeakNothing"}},
		}},
		{name: "regions without udev", config: lab.Config{DIMMs: lab.TwoEqualDIMMs(), NoUdev: true}, passes: []pass{
			{"integration", []string{"TestScripts/noudev"}, nil, nil},
		}},
		{name: "kinds of regions", config: lab.Config{DIMMs: lab.AllKindsOfDIMMs()}, passes: []pass{
			{"integration", []string{"TestScripts/kinds"}, nil, nil},
			{"ndctl", []string{"TestGuestSysfsMatchesLibndctl"}, nil, nil},
		}},
		{name: "unlabelled", config: lab.Config{DIMMs: lab.Unlabelled(1 << 30), MemmapMiB: 1024}, passes: []pass{
			{"integration", nil, []string{"TestUnlabelledServer"}, nil}, // needs empty regions
			{"integration", nil, []string{"TestScripts/unlabelled"}, nil},
			{"ndctl", nil, []string{"TestGuestSysfsMatchesLibndctl"}, nil},
		}},
		{name: "CXL memory", config: lab.Config{CXL: lab.TwoCXLDevices()}, passes: []pass{
			{"integration", nil, []string{"TestScripts/cxl"}, []string{"TestScripts/cxl/cxl"}}, // leaves a region
			{"ndctl", nil, []string{"TestGuestSysfsMatchesLibndctl"}, nil},
		}},
		{name: "CXL bridges", config: lab.Config{CXL: lab.TwoCXLBridges()}, passes: []pass{
			{"integration", nil, nil, []string{"TestCXLServer"}},
		}},
		{name: "nfit_test", config: lab.Config{DIMMs: lab.TwoEqualDIMMs(), NFITTest: true}, passes: []pass{
			{"integration", []string{"TestScripts/nfit"}, []string{"TestScripts/nfit/poison"}, nil},
			{"ndctl", []string{"TestGuestSysfsMatchesLibndctl"}, nil, nil},
		}},
		{name: "no PMEM", config: lab.Config{}, passes: []pass{
			{"integration", []string{"TestScripts/none"}, nil, nil},
		}},
		{name: "no driver", config: lab.Config{DIMMs: lab.TwoEqualDIMMs(), NoPMEMModules: true, NoUdev: true}, passes: []pass{
			{"integration", []string{"TestScripts/nodriver"}, nil, nil},
		}},
		{name: "CSI", config: two, passes: []pass{
			{"integration", []string{
				"TestCSISanity", "TestCSIContainer", "TestCSILife", "TestCSIRawBlock", "TestCSIInline", "TestCSIRefusals",
				"TestCSISwappedTarget", "TestCSISurroundings", "TestCSIDAX",
			}, []string{
				"TestCSIRawBlockOfFilesystem", "TestCSIHeldLock", "TestCSIStatsOfDown",
				"TestHostile", "TestHostileContainer",
			}, []string{
				"TestCSISanity/all_lvm_block", "TestCSISanity/direct_direct_block", "TestCSIContainerProbe", "TestCSIEraseDoesNotBlock", "TestCSIIdempotence",
				"TestCSIDAX/lvm_ext4", "TestCSIDAX/direct_xfs",
			}},
		}},
		{name: "old data", config: two, passes: []pass{
			{"integration", []string{"TestCSINoOldData"}, []string{
				"TestCSINoOldData/lvm_killed_while_erasing,_then_direct",
			}, []string{
				"TestCSINoOldData/lvm_not_erased,_then_lvm", "TestCSINoOldData/direct_not_erased,_then_direct",
			}},
		}},
		{name: "crash", config: two, passes: []pass{
			{"integration", []string{"TestCrash"}, []string{"TestCSICrashInit"}, []string{"TestCSICrash"}},
		}},
		{name: "stress", config: two, passes: []pass{{"integration", nil, nil, []string{"TestCSIStress"}}}},
		{name: "flush", config: two, passes: []pass{{"integration", nil, nil, []string{"TestFlushVG", "TestFlush"}}}},
		{name: "power cut", drive: powerCut},
		{name: "reboot", drive: reboot},
		{name: "hostile reboot", driveRest: hostileReboot},
		{name: "reboot unlabelled", driveRest: rebootUnlabelled},
		{name: "reboot CXL", driveRest: rebootCXL},
	}

	// driven are the tests that powerCut and hostileReboot run.
	driven = []string{"TestPowerCutLoad", "TestPowerCutCheck", "TestHostileBeforeReboot", "TestHostileAfterReboot"}
)

// selected are the tests of a pass that are to run now, and what is below them that is not.
func (p pass) selected() (tests, skip []string) {
	switch {
	case testenv.IsCampaign():
		return slices.Concat(p.short, p.rest, p.long), nil
	case testenv.All(testenv.Rest):
		return slices.Concat(p.rest, p.long), nil
	case testenv.IsRest():
		return p.rest, p.long
	default:
		return p.short, slices.Concat(p.rest, p.long)
	}
}

// pattern is a regular expression for exactly these tests and subtests.
func pattern(names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, "^"+strings.ReplaceAll(name, "/", "$/^")+"$")
	}
	return strings.Join(all, "|")
}
