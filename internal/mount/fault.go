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

// The faults of a file system. All but Erred end its use: what is read may be wrong, and
// nothing can be written.
const (
	ShutDown     Fault = "was shut down by the kernel after an error"
	MadeReadOnly Fault = "was made read-only by the kernel after an error"
	Erred        Fault = "has errors, which are repaired at the next mount"
)

// FaultOf tells what the kernel found wrong with a file system that is mounted; "" for
// nothing. It is asked at one of its mount points, of all of them. A file system that
// is well is not written to.
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
	// After an error ext4 may go on, or refuse what is written, of which since Linux 6.12
	// its options say nothing: "errors=remount-ro".
	if wasWritable && refusesFiles(all) {
		return MadeReadOnly
	}
	return Erred
}

// isShutDown reports whether a file system does nothing any more: XFS says so when it is
// looked at, ext4 when it is to write what is due.
func isShutDown(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Is(err, unix.EIO)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return errors.Is(unix.Fstat(fd, &st), unix.EIO) || errors.Is(unix.Fsync(fd), unix.EIO)
}

// errorsOf is the number of errors that an ext4 has recorded since it was last checked.
func errorsOf(n blockdev.Number) int {
	data, _ := os.ReadFile(filepath.Join("/sys/fs/ext4", n.KernelName(), "errors_count"))
	count, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return count
}

// refusesFiles tries to make a file without a name, where that should be possible.
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
