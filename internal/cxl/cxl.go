// Package cxl reads CXL memory devices from sysfs (Documentation/ABI/testing/sysfs-bus-cxl).
package cxl

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Root is the directory in sysfs with a link for every device of the CXL bus.
const Root = "/sys/bus/cxl/devices"

// bus is that directory. Missing files are empty.
type bus string

// Memdevs lists the memory devices with persistent memory, sorted by serial number: the kernel's
// numbers can differ at each boot.
func Memdevs(root string) []pmem.Memdev {
	b := bus(root)
	names := b.names()
	regions := b.regionsByMemdev(names)
	var all []pmem.Memdev
	for _, dev := range names {
		size := b.number(dev, "pmem/size")
		if !numbered(dev, "mem") || size == 0 {
			continue
		}
		m := pmem.Memdev{Dev: dev, Serial: b.number(dev, "serial"), Size: size, Host: b.parent(dev), Decoder: b.decoderFor(dev, names), Regions: regions[dev]}
		if node, err := strconv.Atoi(b.text(dev, "numa_node")); err == nil && node >= 0 {
			m.NUMANode = &node
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(x, y pmem.Memdev) int {
		return cmp.Or(cmp.Compare(x.Serial, y.Serial), cmp.Compare(x.Dev, y.Dev))
	})
	return all
}

func (b bus) names() (names []string) {
	entries, err := os.ReadDir(string(b))
	if err != nil {
		return nil // no CXL, or no driver for it
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// decoderFor returns the first root decoder for persistent memory that reaches a memory device: one
// whose targets include the host bridge of its endpoint.
func (b bus) decoderFor(memdev string, names []string) string {
	bridge := ""
	for _, endpoint := range names {
		if numbered(endpoint, "endpoint") && b.uport(endpoint) == memdev {
			bridge = b.uport(b.portBelowRoot(endpoint))
		}
	}
	for _, dev := range names {
		if bridge != "" && b.isRootForPMEM(dev) && slices.ContainsFunc(strings.Split(b.text(dev, "target_list"), ","), func(id string) bool {
			dport, err := os.Readlink(filepath.Join(string(b), b.parent(dev), "dport"+id))
			return err == nil && filepath.Base(dport) == bridge
		}) {
			return dev
		}
	}
	return ""
}

// portBelowRoot returns the port of a host bridge, which is above an endpoint.
func (b bus) portBelowRoot(dev string) string {
	for dev != "" && !strings.HasPrefix(b.parent(dev), "root") {
		dev = b.parent(dev)
	}
	return dev
}

// uport returns the name of the device that a port belongs to.
func (b bus) uport(port string) string {
	device, err := os.Readlink(filepath.Join(string(b), port, "uport"))
	if err != nil || port == "" {
		return ""
	}
	return filepath.Base(device)
}

// isRootForPMEM reports whether a device is a root decoder that can address persistent memory.
func (b bus) isRootForPMEM(dev string) bool {
	return strings.HasPrefix(dev, "decoder") && strings.HasPrefix(b.parent(dev), "root") && b.text(dev, "cap_pmem") == "1"
}

// regionsByMemdev returns the regions that each memory device is in. A region's targets are the
// decoders of endpoints, which are below the port of their device.
func (b bus) regionsByMemdev(names []string) map[string][]string {
	in := map[string][]string{}
	for _, region := range names {
		if !numbered(region, "region") {
			continue
		}
		for i := range b.number(region, "interleave_ways") {
			if memdev := b.memdevOf(b.text(region, "target"+strconv.FormatUint(i, 10))); memdev != "" {
				in[memdev] = append(in[memdev], region)
			}
		}
	}
	return in
}

// Granularity returns the interleave granularity of a region in bytes; 0 if it is not a CXL region,
// or is not interleaved. The NVDIMM region on a CXL region has the same name (kernel
// drivers/cxl/pmem.c, cxl_pmem_region_probe).
func Granularity(root, region string) uint64 {
	b := bus(root)
	if b.number(region, "interleave_ways") < 2 {
		return 0
	}
	return b.number(region, "interleave_granularity")
}

// numbered reports whether a device name is a prefix and a number.
func numbered(dev, prefix string) bool {
	number, ok := strings.CutPrefix(dev, prefix)
	_, err := strconv.Atoi(number)
	return ok && err == nil
}

// parent returns the name of the device above one.
func (b bus) parent(dev string) string {
	path, err := os.Readlink(filepath.Join(string(b), dev))
	if err != nil || dev == "" {
		return ""
	}
	return filepath.Base(filepath.Dir(path))
}

func (b bus) text(dev, attribute string) string {
	data, _ := os.ReadFile(filepath.Join(string(b), dev, attribute))
	return strings.TrimSpace(string(data))
}

func (b bus) number(dev, attribute string) uint64 {
	n, _ := parse(b.text(dev, attribute))
	return n
}

func parse(text string) (uint64, error) { return strconv.ParseUint(text, 0, 64) }
