package mount

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/blockdev"
)

// Fault is what the kernel found wrong with a mounted file system.
type Fault string

// The faults of a file system. All except Erred end its use: reads may be wrong, and writes fail.
const (
	ShutDown     Fault = "was shut down by the kernel after an error"
	MadeReadOnly Fault = "was made read-only by the kernel after an error"
	Erred        Fault = "has errors, which are repaired at the next mount"
)

// FaultOf returns what the kernel found wrong with a mounted file system; "" if nothing. p is one
// of its mount points, all are all of them. Nothing is written to a healthy file system.
func FaultOf(n blockdev.Number, p Point, all []Point) Fault {
	wasWritable := slices.ContainsFunc(all, func(p Point) bool { return !slices.Contains(p.Own, "ro") })
	for option, fault := range map[string]Fault{"shutdown": ShutDown, "emergency_ro": MadeReadOnly} { // ext4 since Linux 6.15
		if slices.Contains(p.Super, option) {
			return fault
		}
	}
	if wasWritable && slices.Contains(p.Super, "ro") {
		return MadeReadOnly
	}
	if isShutDown(p.Path) {
		return ShutDown
	}
	if p.FSType != Ext4 || errorsOf(n) == 0 {
		return ""
	}
	// After an error, ext4 may continue or refuse writes. Since Linux 6.12 its options no longer
	// show this ("errors=remount-ro").
	if wasWritable && refusesFiles(all) {
		return MadeReadOnly
	}
	return Erred
}

// isShutDown reports whether a file system is shut down: XFS returns an error on any access, ext4
// only on a sync.
func isShutDown(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Is(err, unix.EIO)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return errors.Is(unix.Fstat(fd, &st), unix.EIO) || errors.Is(unix.Fsync(fd), unix.EIO)
}

// errorsOf returns the number of errors that an ext4 file system has recorded since its last
// check.
func errorsOf(n blockdev.Number) int {
	data, _ := os.ReadFile(filepath.Join("/sys/fs/ext4", n.KernelName(), "errors_count"))
	count, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return count
}

// refusesFiles tries to create an unnamed file where that should be possible.
func refusesFiles(all []Point) bool {
	for _, p := range all {
		if slices.Contains(p.Own, "ro") {
			continue
		}
		fd, err := unix.Open(p.Path, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
			return false
		}
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EIO) {
			return true
		}
	}
	return false
}
