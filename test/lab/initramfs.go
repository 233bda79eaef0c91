package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pmemctl/pmemctl/test/lab/protocol"
)

// kernel is an unpacked kernel package.
type kernel struct {
	root    string // holds boot/ and lib/modules/
	image   string
	modules string // root/lib/modules/VERSION
}

// sourceDir is the directory of this file, where the lab's scripts are.
func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func findKernel(ctx context.Context) (kernel, error) {
	root, err := script(ctx, "fetch-kernel.sh")
	if err != nil {
		return kernel{}, err
	}
	images, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if len(images) != 1 {
		return kernel{}, fmt.Errorf("%s holds %d kernels, not one; remove it and try again", root, len(images))
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	return kernel{root: root, image: images[0], modules: filepath.Join(root, "lib/modules", version)}, nil
}

// script runs a script of the lab and returns the line it prints.
func script(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(sourceDir(), name), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// writeInitramfs makes the archive with the guest's init, its settings and the
// modules it must load before it can reach the host's root.
func writeInitramfs(ctx context.Context, file string, k kernel, cfg Config) error {
	stage, err := os.MkdirTemp(cfg.Dir, "initramfs.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	paths, err := modulePaths(ctx, k, cfg)
	if err != nil {
		return err
	}
	settings := protocol.Settings{
		ModuleTree: k.root,
		Udev:       !cfg.NoUdev,
		Hostname:   cmp.Or(cfg.Hostname, "pmemlab"),
		Shell:      cfg.Shell,
		Path:       "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	if cfg.Path != "" {
		settings.Path = cfg.Path + ":" + settings.Path
	}
	for i, p := range paths {
		name := fmt.Sprintf("/modules/%03d-%s", i, filepath.Base(p))
		if err := copyFile(p, filepath.Join(stage, name)); err != nil {
			return err
		}
		settings.Modules = append(settings.Modules, name)
	}
	data, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(stage, protocol.SettingsPath), data, 0o644); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(stage, "init"), "./guest")
	build.Dir = sourceDir()
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest's init: %w\n%s", err, out)
	}
	pack := exec.CommandContext(ctx, "sh", "-c", `cd "$1" && find . | cpio -o -H newc --quiet > "$2"`, "sh", stage, file)
	if out, err := pack.CombinedOutput(); err != nil {
		return fmt.Errorf("cpio: %w\n%s", err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
