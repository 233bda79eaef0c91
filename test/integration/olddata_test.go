//go:build guest

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestNoOldDataThroughFilesystem: a volume with a filesystem has bytes of former volumes
// below it, and no file shows one of them, whatever is done with files.
func TestNoOldDataThroughFilesystem(t *testing.T) {
	for _, kind := range kinds {
		for _, fs := range []string{"ext4", "xfs"} {
			for _, dax := range []bool{true, false} {
				if !dax && (kind == "lvm") != (fs == "ext4") {
					continue // the page cache does not know the kind
				}
				t.Run(fmt.Sprintf("%s %s dax=%v", kind, fs, dax), func(t *testing.T) { noOldDataThrough(t, kind, fs, dax) })
			}
		}
	}
	require.NoError(t, resetPMEM())
}

func noOldDataThrough(t *testing.T, kind, fs string, dax bool) {
	const secret, point = "OLD-SECRET", "/mnt/v"
	require.NoError(t, resetPMEM())
	// The rest of the region is somebody else's, so that the volume gets the same space.
	shellf(t, "ndctl create-namespace -r region0 -m raw -s $((4096 - 512))M >&2")
	if kind == "lvm" {
		must(t, "vg init region0")
	}
	must(t, "volume create old --type "+kind+" --size 450Mi --fs none --region region0")
	_, _, device := shown(t, "old")
	shellf(t, "yes %s | dd of=%s bs=1M iflag=fullblock oflag=direct count=450 status=none", secret, device)
	must(t, "volume delete old --force --no-erase")

	must(t, "volume create v --type "+kind+" --size 320Mi --region region0 --fs "+fs)
	mount := "volume mount v " + point
	if !dax {
		mount += " --no-dax"
	}
	must(t, mount)
	_, _, device = shown(t, "v")
	isThere(t, device, secret, true)

	files := 0
	check := func(when string) {
		t.Helper()
		files = 0
		require.NoError(t, filepath.WalkDir(point, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			files++
			found, err := deviceHolds(path, secret)
			require.NoError(t, err, path)
			require.False(t, found, "%s, %s: %s holds old bytes", when, path, secret)
			return nil
		}))
		require.Positive(t, files)
	}
	use := func(n int) {
		t.Helper()
		at := func(name string) string { return fmt.Sprintf("%s/%d-%s", point, n, name) }
		shellf(t, "fallocate -l 40M %s", at("allocated"))
		shellf(t, "truncate -s 40M %s", at("sparse"))
		shellf(t, "xfs_io -f -c 'falloc -k 0 20m' -c 'pwrite -q 0 1' -c 'truncate 20m' %s", at("beyond-the-end"))
		shellf(t, "xfs_io -f -c 'falloc 0 20m' -c 'pwrite -q 3m 5' -c 'fzero 8m 4m' -c 'fpunch 14m 1m' %s", at("punched"))
		shellf(t, "xfs_io -f -d -c 'pwrite -q -b 4k 4m 4k' -c 'pwrite -q -b 4k 9m 4k' %s", at("holes"))
		shellf(t, "xfs_io -f -c 'pwrite -q 0 100' -c 'truncate 5000' -c 'pwrite -q 9000 3' -c 'truncate 9002' -c 'truncate 70000' %s", at("short"))
		f, err := os.OpenFile(at("mapped"), os.O_RDWR|os.O_CREATE, 0o600)
		require.NoError(t, err)
		require.NoError(t, f.Truncate(20<<20))
		data, err := unix.Mmap(int(f.Fd()), 0, 20<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		for i := 0; i < len(data); i += 3 << 20 {
			data[i+17] = 1 // the rest of its page, or huge page, is new
		}
		require.False(t, bytes.Contains(data, []byte(secret)))
		require.NoError(t, unix.Munmap(data))
		require.NoError(t, f.Close())
	}
	use(1)
	check("mounted")
	must(t, "volume unmount v")
	must(t, mount)
	check("mounted again")

	// The filesystem is shut down in the middle of writing and of extending.
	for n := 2; n < 4; n++ {
		cmd := exec.Command("sh", "-c", fmt.Sprintf("i=0; while :; do i=$((i+1)); head -c 300k /dev/zero | tr '\\0' x > %[1]s/%[2]d-written-$((i%%20)); fallocate -o $((i*8192)) -l 8192 %[1]s/%[2]d-grows; printf x | dd of=%[1]s/%[2]d-end bs=1 seek=$((i*5000)) conv=notrunc status=none; done", point, n))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		require.NoError(t, cmd.Start())
		time.Sleep(2 * time.Second)
		flags := []string{"-c shutdown", "-c 'shutdown -f'"}[n%2]
		shellf(t, "xfs_io -x %s %s", flags, point)
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
		must(t, "volume unmount v")
		must(t, mount)
		check("after a shutdown")
	}
	shellf(t, "find %s -type f -delete", point)

	if kind == "lvm" {
		must(t, "volume expand v --size 440Mi")
		isThere(t, device, secret, true)
		use(4)
		shellf(t, "fallocate -l 200M %s/large", point)
		check("expanded")
	}
	must(t, "volume unmount v")
	must(t, "volume delete v --force")
	assert.Empty(t, volumes(t))
}
