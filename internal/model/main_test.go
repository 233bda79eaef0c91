package model_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain has temporary directories in memory, as a host's /run is: tens of thousands of files
// come and go, which takes ten times as long on a disk.
func TestMain(m *testing.M) {
	const memory = "/dev/shm"
	if _, set := os.LookupEnv("TMPDIR"); !set && unix.Access(memory, unix.W_OK) == nil {
		os.Setenv("TMPDIR", memory)
	}
	os.Exit(m.Run())
}
