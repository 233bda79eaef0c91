//go:build faultpoints

// Package fault marks the points between which a crash must do no harm. In a
// normal build a point does nothing; this build kills itself there on demand.
package fault

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

// Environment of the tests: kill -9 at the point with that number, counted from
// 1; the file to append the name of each passed point to; and a file with the name
// of the point to stop at, as with SIGSTOP, removed then.
const (
	KillAtEnv = "PMEMCTL_FAULT_KILL_AT"
	LogEnv    = "PMEMCTL_FAULT_LOG"
	StopEnv   = "PMEMCTL_FAULT_STOP"
	// MediaEnv is an offset and a number of bytes, of any device, that take no write.
	MediaEnv = "PMEMCTL_FAULT_MEDIA"
)

// Media fails like a write to a medium that takes none there.
func Media(offset, length uint64) error {
	var from, count uint64
	if n, _ := fmt.Sscan(os.Getenv(MediaEnv), &from, &count); n == 2 && offset < from+count && from < offset+length {
		return syscall.EIO
	}
	return nil
}

var passed atomic.Int64

// Step kills or stops the process when it is the one asked for.
func Step(name string) {
	n := passed.Add(1)
	if file := os.Getenv(LogEnv); file != "" {
		if f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, name)
			f.Close()
		}
	}
	if at, err := strconv.ParseInt(os.Getenv(KillAtEnv), 10, 64); err == nil && at == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if file := os.Getenv(StopEnv); file != "" {
		if at, err := os.ReadFile(file); err == nil && string(at) == name && os.Remove(file) == nil {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
	}
}
