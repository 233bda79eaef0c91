package ndctl

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// sysfsNVDIMM has a link for every device of the NVDIMM bus
// (Documentation/ABI/testing/sysfs-bus-nvdimm).
const sysfsNVDIMM = "/sys/bus/nd/devices/"

// EnabledFSDAX lists the fsdax namespaces whose block device is up, from sysfs
// alone: libndctl takes longer to read the subsystem than a mount takes. Of each
// it has the device, region, name, UUID, block device and size.
func (Lib) EnabledFSDAX() []pmem.Namespace {
	var found []pmem.Namespace
	blocks, _ := filepath.Glob(sysfsNVDIMM + "pfn*/block/*")
	for _, block := range blocks {
		dev := readLine(filepath.Join(filepath.Dir(filepath.Dir(block)), "namespace"))
		sectors, err := strconv.ParseUint(readLine(filepath.Join(block, "size")), 10, 64)
		if dev == "" || err != nil {
			continue
		}
		// The kernel numbers namespaces within their region: namespace0.1 (namespace_devs.c).
		region, _, _ := strings.Cut(strings.TrimPrefix(dev, "namespace"), ".")
		found = append(found, pmem.Namespace{
			Dev: dev, Region: "region" + region, Mode: pmem.ModeFSDAX, State: pmem.StateEnabled, Blockdev: filepath.Base(block), Size: sectors * 512,
			Name: readLine(sysfsNVDIMM + dev + "/alt_name"), UUID: readLine(sysfsNVDIMM + dev + "/uuid"),
		})
	}
	return found
}

// BusNode is the device node of the first NVDIMM bus, "" where there is none.
func BusNode() string {
	nodes, _ := filepath.Glob("/dev/ndctl[0-9]*")
	return append(nodes, "")[0]
}

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}
