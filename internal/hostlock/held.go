package hostlock

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Held is a lock that a process holds.
type Held struct {
	Name   string    `json:"name"`
	Holder string    `json:"holder"` // its command and process ID
	Since  time.Time `json:"since"`
}

// Is reports whether it is the lock of a name.
func (h Held) Is(name string) bool { return h.Name+".lock" == fileName(name) }

// Held lists the locks that are held, without taking any. One that only a container with another
// Dir holds is not among them.
func (l Locks) Held() ([]Held, error) { return l.held("/proc/locks") }

func (l Locks) held(table string) ([]Held, error) {
	files, err := filepath.Glob(filepath.Join(l.Dir, "*.lock"))
	if err != nil || len(files) == 0 {
		return nil, err
	}
	data, err := os.ReadFile(table)
	if err != nil {
		return nil, err
	}
	var held []Held
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue // released meanwhile
		}
		var st unix.Stat_t
		err = unix.Fstat(int(f.Fd()), &st)
		holder := readHolder(f)
		f.Close()
		if err == nil && isLocked(string(data), &st) {
			held = append(held, Held{strings.TrimSuffix(filepath.Base(file), ".lock"), holder, time.Unix(st.Mtim.Unix())})
		}
	}
	return held, nil
}

// isLocked reports whether the table of locks has a flock of a file: "1: FLOCK ADVISORY WRITE 42
// 00:1a:7 0 EOF", with the hexadecimal device and the inode (proc_locks(5)).
func isLocked(table string, st *unix.Stat_t) bool {
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 5 && fields[1] == "FLOCK" && fields[5] == file {
			return true
		}
	}
	return false
}
