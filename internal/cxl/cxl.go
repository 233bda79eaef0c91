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
	decoder := b.decoderFor(names)
	regions := b.regionsByMemdev(names)
	var all []pmem.Memdev
	for _, dev := range names {
		size := b.number(dev, "pmem/size")
		if !numbered(dev, "mem") || size == 0 {
			continue
		}
		m := pmem.Memdev{Dev: dev, Serial: b.number(dev, "serial"), Size: size, Host: b.parent(dev), Decoder: decoder, Regions: regions[dev]}
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

// decoderFor returns the first root decoder that can address persistent memory.
func (b bus) decoderFor(names []string) string {
	for _, dev := range names {
		if strings.HasPrefix(dev, "decoder") && strings.HasPrefix(b.parent(dev), "root") && b.text(dev, "cap_pmem") == "1" {
			return dev
		}
	}
	return ""
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
			endpoint := b.parent(b.text(region, "target"+strconv.FormatUint(i, 10)))
			memdev, err := os.Readlink(filepath.Join(string(b), endpoint, "uport"))
			if err == nil {
				in[filepath.Base(memdev)] = append(in[filepath.Base(memdev)], region)
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
	n, _ := strconv.ParseUint(b.text(dev, attribute), 0, 64)
	return n
}
