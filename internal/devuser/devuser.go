// Package devuser finds the processes that have a device open or mapped. The kernel itself shows
// only exclusive holders, such as mounts.
package devuser

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Of returns the processes that have the device node open or mapped and are visible in /proc: not
// those of a parent PID namespace. A mapping outlives its file descriptor, so both are checked.
func Of(path string) []int {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil
	}
	is := device{kind: st.Mode & unix.S_IFMT, rdev: st.Rdev}
	var pids []int
	var found sync.Mutex
	var all sync.WaitGroup
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for part := range slices.Chunk(procs, max(1, len(procs)/runtime.NumCPU()+1)) {
		all.Go(func() {
			for _, proc := range part {
				if is.usedBy(proc) {
					pid, _ := strconv.Atoi(filepath.Base(proc))
					found.Lock()
					pids = append(pids, pid)
					found.Unlock()
				}
			}
		})
	}
	all.Wait()
	slices.Sort(pids)
	return pids
}

type device struct {
	kind uint32 // S_IFCHR or S_IFBLK
	rdev uint64
}

func (d device) usedBy(proc string) bool {
	// A kernel thread has no executable and no files.
	if _, err := os.Readlink(proc + "/exe"); errors.Is(err, os.ErrNotExist) {
		return false
	}
	return d.openIn(proc) || d.mappedIn(proc)
}

func (d device) openIn(proc string) bool {
	fds, _ := os.ReadDir(proc + "/fd")
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		return d.is(proc + "/fd/" + fd.Name())
	})
}

// mappedIn follows map_files, because the paths in maps are those of the process's own mount
// namespace. Only shared mappings matter, which are few.
func (d device) mappedIn(proc string) bool {
	f, err := os.Open(proc + "/maps")
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		span, rest, _ := strings.Cut(lines.Text(), " ")
		perms, _, _ := strings.Cut(rest, " ")
		if strings.HasSuffix(perms, "s") && d.is(proc+"/map_files/"+span) {
			return true
		}
	}
	return false
}

// is uses cached attributes, because an unresponsive network file system would block otherwise.
func (d device) is(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	return err == nil && uint32(st.Mode&unix.S_IFMT) == d.kind && unix.Mkdev(st.Rdev_major, st.Rdev_minor) == d.rdev
}
