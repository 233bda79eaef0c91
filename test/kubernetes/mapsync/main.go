// Command mapsync writes as a database on PMEM does: through a mapping with MAP_SYNC,
// and without telling the kernel. What it wrote is there after a power cut.
//
//	mapsync FILE TEXT
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const size = 4 << 20

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: mapsync FILE TEXT")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "mapsync:", err)
		os.Exit(1)
	}
}

func write(name, text string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return fmt.Errorf("allocate: %w", err)
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED_VALIDATE|unix.MAP_SYNC)
	if err != nil {
		return fmt.Errorf("map with MAP_SYNC: %w", err)
	}
	for i := 0; i < size; i += len(text) {
		copy(memory[i:], text)
	}
	return unix.Munmap(memory)
}
