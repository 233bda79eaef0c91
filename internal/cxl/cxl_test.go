package cxl_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// sysfs has the devices of a host as Linux 6.1 shows them: paths of devices, and their attributes.
func sysfs(t *testing.T, devices map[string]map[string]string, uports map[string]string) string {
	t.Helper()
	top := t.TempDir()
	root := filepath.Join(top, "bus/cxl/devices")
	require.NoError(t, os.MkdirAll(root, 0o700))
	for path, attributes := range devices {
		dir := filepath.Join(top, "devices", path)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.Symlink(filepath.Join("../../../devices", path), filepath.Join(root, filepath.Base(path))))
		for name, value := range attributes {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600))
		}
	}
	for endpoint, memdev := range uports {
		require.NoError(t, os.Symlink(filepath.Join("/elsewhere", memdev), filepath.Join(root, endpoint, "uport")))
	}
	return root
}

func TestMemdevs(t *testing.T) {
	const port = "platform/ACPI0017:00/root0/port1/"
	devices := map[string]map[string]string{
		"pci0000:0c/0000:0c:01.0/0000:0e:00.0/mem0":     {"serial": "0x5678", "pmem/size": "0x40000000", "numa_node": "0"},
		"pci0000:0c/0000:0c:00.0/0000:0d:00.0/mem1":     {"serial": "0x1234", "pmem/size": "0x40000000", "numa_node": "-1"},
		"pci0000:0c/0000:0c:02.0/0000:0f:00.0/mem2":     {"serial": "0x9", "pmem/size": "0x0"}, // volatile only
		"platform/ACPI0017:00/root0/decoder0.0":         {"cap_pmem": "0"},
		"platform/ACPI0017:00/root0/decoder0.1":         {"cap_pmem": "1"},
		port + "decoder1.0":                             {"cap_pmem": "1"},
		port + "endpoint2":                              {},
		port + "endpoint3":                              {},
		port + "endpoint2/decoder2.0":                   {},
		port + "endpoint3/decoder3.0":                   {},
		"platform/ACPI0017:00/root0/decoder0.1/region0": {"interleave_ways": "1", "target0": "decoder2.0"},
	}
	node := 0
	got := cxl.Memdevs(sysfs(t, devices, map[string]string{"endpoint2": "mem1", "endpoint3": "mem0"}))
	assert.Equal(t, []pmem.Memdev{
		{Dev: "mem1", Serial: 0x1234, Size: pmem.GiB, Host: "0000:0d:00.0", Decoder: "decoder0.1", Regions: []string{"region0"}},
		{Dev: "mem0", Serial: 0x5678, Size: pmem.GiB, Host: "0000:0e:00.0", Decoder: "decoder0.1", NUMANode: &node},
	}, got)
	assert.Empty(t, cxl.Memdevs(filepath.Join(t.TempDir(), "none")))
}
