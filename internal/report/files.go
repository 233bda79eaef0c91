package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// File is a file of an archive.
type File struct {
	Name string
	What string // what it is, in a few words
	Data []byte
}

// Collector reads files for an archive: what the kernel, LVM and other programs say. It reads no
// content of a volume and no secret.
type Collector struct {
	// Root is the directory that contains /sys, /proc, /etc, /run and /var; "" is "/".
	Root string
	// Run runs a program that changes nothing and returns its output.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// maxFile limits a file of the archive, maxAttribute a file in sysfs, in bytes.
const (
	maxFile      = 1 << 20
	maxAttribute = 4096
)

// commands are the programs whose output is included, if they are installed.
var commands = []struct {
	name, what string
	args       []string
}{
	{"lvm-fullreport.json", "LVM's report of the devices that the host's LVM sees", []string{"lvm", "fullreport", "--reportformat", "json", "--units", "b"}},
	{"lvm-config.txt", "LVM's configuration where it differs from the default", []string{"lvm", "lvmconfig", "--typeconfig", "diff"}},
	{"lvm-version.txt", "version of LVM", []string{"lvm", "version"}},
	{"dmsetup-table.txt", "tables of the device mapper, without keys", []string{"dmsetup", "table"}},
	{"dmsetup-info.txt", "devices of the device mapper", []string{"dmsetup", "info", "-c"}},
	{"ndctl-list.json", "what ndctl shows", []string{"ndctl", "list", "-BDRNFHMvi"}},
	{"ndctl-labels.json", "the labels of the DIMMs", []string{"ndctl", "read-labels", "-j", "all"}},
	{"ndctl-version.txt", "version of ndctl", []string{"ndctl", "version"}},
	{"mkfs-xfs-version.txt", "version of xfsprogs", []string{"mkfs.xfs", "-V"}},
}

// aboutPMEM matches the kernel's messages and parameters about PMEM, file systems and mapped
// devices.
var aboutPMEM = regexp.MustCompile(`(?i)\b(nd_\w+|nd\b|libnvdimm|nvdimm|nfit|nmem\d|pmem|cxl|dax|region\d|namespace\d|memmap=|persistent|ext4|xfs|device-mapper|dm-\d|badblocks|mce|memory failure|lvm|pmemctl)`)

// Collect reads all files. What cannot be read is omitted; the result says so in errors.txt.
func (c Collector) Collect(ctx context.Context) []File {
	var files []File
	var failures strings.Builder
	add := func(name, what string, data []byte, err error) {
		if err != nil {
			fmt.Fprintf(&failures, "%s: %v\n", name, err)
		}
		if len(data) > maxFile {
			data = data[len(data)-maxFile:] // the end of a log
		}
		if len(data) > 0 {
			files = append(files, File{name, what, data})
		}
	}
	for _, cmd := range commands {
		out, err := c.Run(ctx, cmd.args[0], cmd.args[1:]...)
		add(cmd.name, cmd.what, out, err)
	}
	messages, err := c.Run(ctx, "dmesg")
	add("dmesg.txt", "the kernel's messages about PMEM, file systems and mapped devices", linesAbout(messages), err)
	for _, name := range []string{"version", "modules", "filesystems", "self/mountinfo", "locks", "partitions"} {
		data, err := os.ReadFile(c.path("proc", name))
		add("proc/"+filepath.Base(name), "/proc/"+name, data, err)
	}
	cmdline, err := os.ReadFile(c.path("proc/cmdline"))
	add("proc/cmdline", "the kernel's parameters about PMEM", wordsAbout(cmdline), err)
	sysfs, err := c.sysfs()
	add("sysfs.txt", "the attributes of NVDIMM and block devices in /sys", sysfs, err)
	for _, dir := range []struct{ path, what string }{
		{"run/pmemctl", "what pmemctl remembers until the next boot"},
		{"var/lib/pmemctl", "what pmemctl remembers, with copies of LVM's metadata"},
		{"etc/udev/rules.d", "udev rules of pmemctl"},
		{"etc/lvm/lvmlocal.conf", "configuration of LVM on this host"},
	} {
		c.tree(dir.path, dir.what, add)
	}
	logs, _ := filepath.Glob(c.path("var/log/pods/*_pmemctl-csi-*_*/pmemctl/*.log"))
	for _, log := range logs {
		if real, err := filepath.EvalSymlinks(log); err != nil || real != log {
			continue // not the runtime's
		}
		data, err := tail(log)
		add("log/"+filepath.Base(filepath.Dir(filepath.Dir(log)))+"-"+filepath.Base(log), "log of serve-csi", data, err)
	}
	if failures.Len() > 0 {
		add("errors.txt", "what could not be read", []byte(failures.String()), nil)
	}
	return files
}

func (c Collector) path(elem ...string) string {
	return filepath.Join(append([]string{"/", c.Root}, elem...)...)
}

func linesAbout(text []byte) []byte {
	var about bytes.Buffer
	for line := range bytes.Lines(text) {
		if aboutPMEM.Match(line) {
			about.Write(line)
		}
	}
	return about.Bytes()
}

func wordsAbout(text []byte) []byte {
	words := slices.DeleteFunc(strings.Fields(string(text)), func(w string) bool { return !aboutPMEM.MatchString(w) })
	if len(words) == 0 {
		return nil
	}
	return []byte(strings.Join(words, " ") + "\n")
}

func deviceOf(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return st.Dev, err
}

// tail returns the last maxFile bytes of a regular file.
func tail(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	if info, err := f.Stat(); err == nil && info.Size() > maxFile {
		if _, err := f.Seek(-maxFile, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// tree adds the regular files below a path, on the same file system.
func (c Collector) tree(path, what string, add func(name, what string, data []byte, err error)) {
	on, err := deviceOf(c.path(path))
	if err != nil {
		return // does not exist
	}
	_ = filepath.WalkDir(c.path(path), func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if entry.IsDir() {
			if dev, err := deviceOf(file); err != nil || dev != on {
				return fs.SkipDir // something is mounted there, perhaps a volume
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		name := strings.TrimPrefix(file, c.path()+"/")
		if c.path() == "/" {
			name = strings.TrimPrefix(file, "/")
		}
		if strings.HasPrefix(name, "etc/udev/") && !strings.Contains(name, "pmem") {
			return nil
		}
		data, err := tail(file)
		add(name, what, data, err)
		return nil
	})
}

// sysfs returns the attributes of the devices of the NVDIMM bus, and of the block devices on PMEM
// or of the device mapper, a line each.
func (c Collector) sysfs() ([]byte, error) {
	var text bytes.Buffer
	dirs, err := filepath.Glob(c.path("sys/bus/nd/devices/*"))
	if err != nil {
		return nil, err
	}
	for _, pattern := range []string{"pmem*", "dm-*"} {
		found, _ := filepath.Glob(c.path("sys/class/block", pattern))
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		for _, sub := range []string{"", "nfit", "mapping", "queue", "dm"} {
			entries, _ := os.ReadDir(filepath.Join(dir, sub))
			for _, e := range entries {
				// Reading wait_probe waits for the kernel.
				if !e.Type().IsRegular() || e.Name() == "wait_probe" {
					continue
				}
				file := filepath.Join(dir, sub, e.Name())
				if data, err := readAttribute(file); err == nil {
					fmt.Fprintf(&text, "%s: %s\n", strings.TrimPrefix(file, c.path()), strings.ReplaceAll(strings.TrimSpace(string(data)), "\n", "; "))
				}
			}
		}
		for _, sub := range []string{"holders", "slaves"} {
			entries, _ := os.ReadDir(filepath.Join(dir, sub))
			for _, e := range entries {
				fmt.Fprintf(&text, "%s/%s/%s\n", strings.TrimPrefix(dir, c.path()), sub, e.Name())
			}
		}
	}
	return text.Bytes(), nil
}

func readAttribute(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxAttribute))
}
