package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

// Machine reads what makes figures doubtful. Root is the directory that contains /proc and /sys,
// for tests; "" is "/".
type Machine struct{ Root string }

func (m Machine) read(path string) string {
	data, _ := os.ReadFile(filepath.Join("/", m.Root, path))
	return strings.TrimSpace(string(data))
}

func (m Machine) warnings() []string {
	all := []string{}
	cpu := m.read("proc/cpuinfo")
	for line := range strings.Lines(cpu) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "flags" && slices.Contains(strings.Fields(value), "hypervisor") {
			all = append(all, "this is a virtual machine: the figures are those of its memory, which may not be persistent memory")
			break
		}
	}
	var load float64
	if _, err := fmt.Sscan(m.read("proc/loadavg"), &load); err == nil && load > float64(runtime.NumCPU())/2 {
		all = append(all, fmt.Sprintf("the machine is busy: load %.2f on %d processors", load, runtime.NumCPU()))
	}
	if governor := m.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"); governor != "" && governor != "performance" {
		all = append(all, "the processors change their frequency: governor "+governor)
	}
	return all
}

// near returns the processors of the NUMA node of a region, as a list for fio; "" for any. far is a
// warning if there are none.
func (m Machine) near(r pmem.Region) (cpus, far string) {
	nodes, _ := filepath.Glob(filepath.Join("/", m.Root, "sys/devices/system/node/node[0-9]*"))
	if r.NUMANode == nil || len(nodes) < 2 {
		return "", ""
	}
	cpus = m.read(fmt.Sprintf("sys/devices/system/node/node%d/cpulist", *r.NUMANode))
	if cpus == "" {
		return "", fmt.Sprintf("%s is on NUMA node %d, which has no processors: every access is remote", r.Dev, *r.NUMANode)
	}
	return cpus, ""
}
