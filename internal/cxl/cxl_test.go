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

// sysfs has the devices of a host as Linux 6.1 shows them: paths of devices, their attributes, and links to
// others.
func sysfs(t *testing.T, devices map[string]map[string]string, links map[string]string) string {
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
	for path, to := range links {
		require.NoError(t, os.Symlink(filepath.Join("/elsewhere", to), filepath.Join(root, path)))
	}
	return root
}

func TestMemdevs(t *testing.T) {
	const root = "platform/ACPI0017:00/root0/"
	devices := map[string]map[string]string{
		"pci0000:0c/0000:0c:01.0/0000:0e:00.0/mem0": {"serial": "0x5678", "pmem/size": "0x40000000", "numa_node": "0"},
		"pci0000:0c/0000:0c:00.0/0000:0d:00.0/mem1": {"serial": "0x1234", "pmem/size": "0x40000000", "numa_node": "-1"},
		"pci0000:0c/0000:0c:02.0/0000:0f:00.0/mem2": {"serial": "0x9", "pmem/size": "0x0"}, // volatile only
		"pci0000:4c/0000:4c:00.0/0000:4d:00.0/mem3": {"serial": "0x7", "pmem/size": "0x40000000"},
		root + "decoder0.0":                         {"cap_pmem": "0", "target_list": "12,76"},
		root + "decoder0.1":                         {"cap_pmem": "1", "target_list": "76"},
		root + "decoder0.2":                         {"cap_pmem": "1", "target_list": "12"},
		root + "port1":                              {}, root + "port2": {}, root[:len(root)-1]: {},
		root + "port1/decoder1.0":           {"cap_pmem": "1"},
		root + "port1/endpoint3":            {},
		root + "port1/switch/endpoint4":     {}, // below a switch
		root + "port1/switch":               {},
		root + "port2/endpoint5":            {},
		root + "port1/endpoint3/decoder3.0": {},
		root + "decoder0.2/region0":         {"interleave_ways": "1", "target0": "decoder3.0"},
	}
	node := 0
	got := cxl.Memdevs(sysfs(t, devices, map[string]string{
		"endpoint3/uport": "mem1", "endpoint4/uport": "mem0", "endpoint5/uport": "mem3",
		"port1/uport": "ACPI0016:01", "port2/uport": "ACPI0016:00", "root0/dport12": "ACPI0016:01", "root0/dport76": "ACPI0016:00",
	}))
	assert.Equal(t, []pmem.Memdev{
		{Dev: "mem3", Serial: 0x7, Size: pmem.GiB, Host: "0000:4d:00.0", Decoder: "decoder0.1"},
		{Dev: "mem1", Serial: 0x1234, Size: pmem.GiB, Host: "0000:0d:00.0", Decoder: "decoder0.2", Regions: []string{"region0"}},
		{Dev: "mem0", Serial: 0x5678, Size: pmem.GiB, Host: "0000:0e:00.0", Decoder: "decoder0.2", NUMANode: &node},
	}, got)
	assert.Empty(t, cxl.Memdevs(filepath.Join(t.TempDir(), "none")))
}
