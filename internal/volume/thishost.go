package volume

import (
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/ndctl"
)

// Directories of the state that persists across reboots; ArchiveDir has LVM's metadata.
const (
	StateDir   = "/var/lib/pmemctl"
	ArchiveDir = StateDir + "/lvm"
)

// OfThisHost returns an NDCTL that also knows what this host recorded.
func OfThisHost(n NDCTL) NDCTL {
	return WithRecords(WithUnlabelled(n, KernelDevices{}, ArchiveDir), StateDir)
}

// OnThisHost returns the service for this machine, and a function that ends the processes it
// started.
func OnThisHost() (s *Service, end func()) {
	named := OfThisHost
	lib := ndctl.Lib{}
	seeing := func(devices func(NDCTL) ([]string, error)) *lvm.Client {
		return &lvm.Client{RunDir: hostlock.DefaultDir, Devices: func() ([]string, error) { return devices(named(lib)) }}
	}
	own, foreign, disks, all := seeing(MemberDevices), seeing(ForeignPMEM), seeing(OtherDisks), seeing(NoVolumes)
	s = &Service{
		NDCTL: named(lib), KeepNDCTL: func() (NDCTL, func()) { keep, done := lib.Keep(); return named(keep), done },
		LVM: own, Foreign: foreign, Disks: disks, All: all,
		Devices: KernelDevices{}, Mounts: KernelMounts{},
		Locks:  hostlock.Locks{Dir: hostlock.DefaultDir, Shared: ndctl.BusNode},
		RunDir: hostlock.DefaultDir, StateDir: StateDir, ArchiveDir: ArchiveDir,
	}
	return s, func() {
		for _, c := range []*lvm.Client{own, foreign, disks, all} {
			c.Close()
		}
	}
}
