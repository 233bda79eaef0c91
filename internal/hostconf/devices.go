package hostconf

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// marks are the first characters after "pmemctl" in the names of pmemctl's namespaces:
// docs/architecture.md, "How a volume comes into being".
const marks = "+:=*"

func marked(name string) bool {
	rest, ok := strings.CutPrefix(name, "pmemctl")
	return ok && rest != "" && strings.Contains(marks, rest[:1])
}

// devices returns the kernel's names of pmemctl's block devices, by the same criteria as
// 12-pmemctl.rules: namespaces first, then the devices stacked on them.
func (h Host) devices() ([]string, error) {
	entries, err := os.ReadDir(h.sys("class/block"))
	if err != nil {
		return nil, err
	}
	var pmem, mapped, loops []string
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, "pmem") && h.isNamespace(name):
			pmem = append(pmem, name)
		case strings.HasPrefix(name, "dm-") && h.isLogicalVolume(name):
			mapped = append(mapped, name)
		case strings.HasPrefix(name, "loop"):
			loops = append(loops, name)
		}
	}
	own := slices.Concat(pmem, mapped)
	for _, name := range loops {
		if slices.Contains(own, h.below(name)) {
			own = append(own, name)
		}
	}
	return own, nil
}

// isNamespace reports whether a block device is a namespace of pmemctl, or a partition of one.
func (h Host) isNamespace(name string) bool {
	disk, err := filepath.EvalSymlinks(h.sys("class/block", name))
	if err != nil {
		return false
	}
	if _, err := os.Stat(filepath.Join(disk, "partition")); err == nil {
		disk = filepath.Dir(disk)
	}
	parent, err := filepath.EvalSymlinks(filepath.Join(disk, "device"))
	if err != nil {
		return false
	}
	if namespace := readLine(filepath.Join(parent, "namespace")); namespace != "" {
		infoUUID := readLine(filepath.Join(parent, "uuid"))
		parent = filepath.Join(filepath.Dir(parent), namespace)
		if readLine(filepath.Join(parent, "uuid")) == "" && strings.HasPrefix(infoUUID, markOfUnlabelled) {
			return true
		}
	}
	return marked(readLine(filepath.Join(parent, "alt_name")))
}

// markOfUnlabelled begins the UUID in the info block of a namespace of pmemctl that has no label.
const markOfUnlabelled = "706d656d-6374-8"

// isLogicalVolume reports whether a mapped device is only on namespaces of pmemctl.
func (h Host) isLogicalVolume(name string) bool {
	if !strings.HasPrefix(readLine(h.sys("class/block", name, "dm/uuid")), "LVM-") {
		return false
	}
	slaves, err := os.ReadDir(h.sys("class/block", name, "slaves"))
	return err == nil && len(slaves) > 0 && !slices.ContainsFunc(slaves, func(s os.DirEntry) bool { return !h.isNamespace(s.Name()) })
}

// below returns the block device under a loop device; "" for a file.
func (h Host) below(loop string) string {
	file := readLine(h.sys("class/block", loop, "loop/backing_file"))
	if file == "" {
		return ""
	}
	var st unix.Stat_t
	if unix.Stat(file, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return ""
	}
	dir, err := filepath.EvalSymlinks(h.sys("dev/block", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))))
	if err != nil {
		return ""
	}
	return filepath.Base(dir)
}

func readLine(file string) string {
	data, _ := os.ReadFile(file)
	return strings.TrimSpace(string(data))
}
