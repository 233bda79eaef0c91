package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kernel is what the kernel offers for PMEM.
type Kernel struct {
	Release string
	// Bus reports whether the NVDIMM subsystem is there (/sys/bus/nd), Drivers are its drivers.
	Bus     bool
	Drivers []string
	// Mapper reports whether the device mapper is there.
	Mapper bool
}

// ThisKernel reads the running kernel. root is the directory that contains /sys, for tests; "" is
// "/".
func ThisKernel(root string) Kernel {
	var k Kernel
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		k.Release = unix.ByteSliceToString(u.Release[:])
	}
	path := func(elem ...string) string { return filepath.Join(append([]string{"/", root, "sys"}, elem...)...) }
	_, err := os.Stat(path("bus/nd"))
	k.Bus = err == nil
	drivers, _ := os.ReadDir(path("bus/nd/drivers"))
	for _, d := range drivers {
		k.Drivers = append(k.Drivers, d.Name())
	}
	_, err = os.Stat(path("class/misc/device-mapper"))
	k.Mapper = err == nil
	return k
}

// The drivers of the NVDIMM bus (kernel drivers/nvdimm).
var drivers = []struct{ name, module, without string }{
	{"nd_region", "libnvdimm", "regions are not enabled"},
	{"nvdimm", "libnvdimm", "labels cannot be read"},
	{"nd_pmem", "nd_pmem", "namespaces have no block device"},
}

func (c Checker) checkKernel(r *report) {
	k := c.Kernel()
	var major, minor int
	if n, _ := fmt.Sscanf(k.Release, "%d.%d", &major, &minor); n == 2 && (major < 5 || major == 5 && minor < 8) {
		r.add("kernel", "", Warning, k.Release+" cannot tell whether a file uses DAX", "use Linux 5.8 or later")
	} else {
		r.ok("kernel", "", k.Release)
	}
	if !k.Bus {
		r.add("modules", "", Fault, "the kernel's NVDIMM driver is not loaded", "modprobe nfit (for CXL memory: modprobe cxl_pmem)")
		return
	}
	var missing, modules []string
	for _, d := range drivers {
		if !slices.Contains(k.Drivers, d.name) {
			missing, modules = append(missing, d.name+": "+d.without), append(modules, d.module)
		}
	}
	switch {
	case len(missing) > 0:
		r.add("modules", "", Fault, "a driver is missing: "+strings.Join(missing, "; "), "modprobe -a "+strings.Join(slices.Compact(modules), " "))
	case !k.Mapper:
		r.add("modules", "", Warning, "the device mapper is not loaded, so there are no lvm volumes", "modprobe dm_mod")
	default:
		r.ok("modules", "", strings.Join(k.Drivers, ", "))
	}
}

// programs are those that pmemctl starts, and what needs them.
var programs = []struct {
	name, use string
	state     State
}{
	{"lvm", "lvm volumes", Fault},
	{"mkfs.ext4", "volumes with ext4", Fault},
	{"e2fsck", "checking ext4 after an error", Warning},
	{"resize2fs", "growing ext4", Warning},
	{"tune2fs", "copying volumes with ext4", Warning},
	{"mkfs.xfs", "volumes with XFS", Note},
	{"xfs_growfs", "growing XFS", Note},
	{"xfs_db", "copying volumes with XFS", Note},
	{"blkid", "recognizing what is on a device", Fault},
}

func (c Checker) checkPrograms(r *report) {
	missing := false
	for _, p := range programs {
		if err := c.Installed(p.name); err != nil {
			r.failed("programs", p.name, err)
			last := &r.findings[len(r.findings)-1]
			last.State, last.Detail, missing = p.state, "is not installed, and is required for "+p.use, true
		}
	}
	if !missing {
		r.ok("programs", "", "all are installed")
	}
}
