package lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

var (
	baseModules = []string{
		"virtio_pci", "virtio_console", "virtio_rng", "9p", "9pnet_virtio", "overlay",
		"crc32c_generic", "crc32c_intel", "dm-mod", "dm-snapshot", "ext4", "xfs", "loop",
	}
	pmemModules = []string{"libnvdimm", "nfit", "nd_btt", "nd_pmem", "device_dax", "dax_pmem", "kmem"}
	// nfitTestModules in the order that their symbols ask for: nfit_test_iomap
	// wraps the functions that the others then bind to.
	nfitTestModules = []string{"nfit_test_iomap", "libnvdimm", "nfit", "nd_btt", "nd_pmem", "nd_e820", "device_dax", "dax_pmem", "kmem", "nfit_test"}
)

// modulePaths lists the files to load, each after those it depends on. The
// kernel's own modules.dep is read because modprobe answers for the running
// kernel, whose built-in modules are others.
func modulePaths(ctx context.Context, k kernel, cfg Config) ([]string, error) {
	deps, err := readModulesDep(k.modules)
	if err != nil {
		return nil, err
	}
	wanted := baseModules
	replaced := map[string]string{}
	switch {
	case cfg.NFITTest:
		dir, err := script(ctx, "nfit-test.sh", filepath.Base(k.modules))
		if err != nil {
			return nil, err
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			replaced[moduleName(f)] = f
		}
		wanted = append(append([]string{}, wanted...), nfitTestModules...)
	case !cfg.NoPMEMModules:
		wanted = append(append([]string{}, wanted...), pmemModules...)
	}
	if cfg.MemmapMiB > 0 {
		wanted = append(append([]string{}, wanted...), "nd_e820")
	}
	if slices.ContainsFunc(cfg.DIMMs, func(d DIMM) bool { return d.Virtio }) {
		wanted = append(append([]string{}, wanted...), "nd_virtio", "virtio_pmem")
	}
	if len(cfg.CXL) > 0 {
		wanted = append(append([]string{}, wanted...), "cxl_acpi", "cxl_pci", "cxl_mem", "cxl_pmem")
	}
	if cfg.Network != 0 {
		wanted = append(append([]string{}, wanted...), "virtio_net", "bridge", "veth")
	}
	var paths []string
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		mod, known := deps[name]
		for _, d := range mod.needs {
			if err := add(d); err != nil {
				return err
			}
		}
		if own, ok := replaced[name]; ok {
			paths = append(paths, own)
			return nil
		}
		if !known {
			return fmt.Errorf("kernel module %s is not in %s", name, k.modules)
		}
		if mod.file != "" {
			paths = append(paths, filepath.Join(k.modules, mod.file))
		}
		return nil
	}
	for _, name := range wanted {
		if err := add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

type module struct {
	file  string // "" when built into the kernel
	needs []string
}

func readModulesDep(dir string) (map[string]module, error) {
	mods := map[string]module{}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Fields(string(builtin)) {
		mods[moduleName(line)] = module{}
	}
	// modules.dep is made at installation, and the package was only unpacked.
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); err != nil {
		depmod := exec.Command("/sbin/depmod", "-b", filepath.Join(dir, "../../.."), filepath.Base(dir))
		if out, err := depmod.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("depmod (package kmod): %w\n%s", err, out)
		}
	}
	f, err := os.Open(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		file, needs, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		m := module{file: file}
		for _, n := range strings.Fields(needs) {
			m.needs = append(m.needs, moduleName(n))
		}
		mods[moduleName(file)] = m
	}
	return mods, lines.Err()
}

// moduleName is the kernel's name of a module: "a/dm-mod.ko" is dm_mod.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
}
