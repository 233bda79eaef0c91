//go:build faultpoints

// Package fault marks the points between which a crash must do no harm. In a normal build they do
// nothing; this build can kill itself there, for tests.
package fault

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
)

// Environment variables for tests: the number of the point at which to kill the process, counted
// from 1; a file to which the name of each point is appended; and a file with the name of the
// point at which to stop the process (SIGSTOP), which is removed then.
const (
	KillAtEnv = "PMEMCTL_FAULT_KILL_AT"
	LogEnv    = "PMEMCTL_FAULT_LOG"
	StopEnv   = "PMEMCTL_FAULT_STOP"
	// MediaEnv is an offset and a number of bytes, on any device, where writes fail.
	MediaEnv = "PMEMCTL_FAULT_MEDIA"
)

// Media returns EIO for a range with a simulated media error.
func Media(offset, length uint64) error {
	var from, count uint64
	if n, _ := fmt.Sscan(os.Getenv(MediaEnv), &from, &count); n == 2 && offset < from+count && from < offset+length {
		return syscall.EIO
	}
	return nil
}

var passed atomic.Int64

// Step kills or stops the process if it is the selected point.
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
