//go:build guest

package dax

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const autoOnline = "/sys/devices/system/memory/auto_online_blocks"

// TestGuest runs as root in the lab guest; it destroys the data in region0.
func TestGuest(t *testing.T) {
	for _, args := range [][]string{
		{"disable-region", "region0"}, {"init-labels", "-f", "nmem0"}, {"enable-region", "region0"},
	} {
		ndctl(t, args...)
	}
	ndctl(t, "create-namespace", "-r", "region0", "-m", "devdax", "-s", "2G")
	t.Cleanup(func() { ndctl(t, "destroy-namespace", "-f", "-r", "region0", "all") })
	setPolicy(t, "offline")

	dev := only(t)
	name := dev.Chardev
	assert.Equal(t, ModeDevDAX, dev.Mode)
	assert.Equal(t, StateEnabled, dev.State)
	assert.Equal(t, "/dev/"+name, dev.Path)
	assert.Equal(t, uint64(2<<20), dev.Align)
	assert.Greater(t, dev.Size, uint64(1900<<20))
	require.NotNil(t, dev.TargetNode)
	before := memTotal(t)

	t.Run("devdax while in devdax", func(t *testing.T) {
		again := reconfigure(t, name, Reconfigure{Mode: ModeDevDAX})
		assert.Equal(t, dev, again)
	})

	t.Run("in use", func(t *testing.T) {
		f, err := os.OpenFile(dev.Path, os.O_RDWR, 0)
		require.NoError(t, err)
		refused(t, name, Reconfigure{Mode: ModeSystemRAM}, ErrInUse)
		m, err := unix.Mmap(int(f.Fd()), 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		refused(t, name, Reconfigure{Mode: ModeSystemRAM}, ErrInUse)
		m[0] = 1
		require.NoError(t, unix.Munmap(m))
	})

	t.Run("kernel policy", func(t *testing.T) {
		setPolicy(t, "online")
		refused(t, name, Reconfigure{Mode: ModeSystemRAM}, ErrAutoOnline)
		refused(t, name, Reconfigure{Mode: ModeSystemRAM, NoOnline: true}, ErrAutoOnline)
		assert.Equal(t, dev, only(t))
	})

	t.Run("kernel policy accepted", func(t *testing.T) {
		setPolicy(t, "online_movable")
		ram := reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM, Force: true})
		assert.Equal(t, *ram.TotalMemblocks, *ram.OnlineMemblocks)
		assert.True(t, *ram.Movable)
		assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}))

		// The result differs from the request, so it is reverted.
		refused(t, name, Reconfigure{Mode: ModeSystemRAM, NoMovable: true}, ErrAutoOnline)
		assert.Equal(t, dev, only(t))
	})

	t.Run("no driver", func(t *testing.T) {
		const blacklist = "/etc/modprobe.d/dax-test.conf"
		require.NoError(t, os.WriteFile(blacklist, []byte("blacklist kmem\n"), 0o644))
		command(t, "modprobe", "-r", "kmem")
		refused(t, name, Reconfigure{Mode: ModeSystemRAM}, ErrNoDriver)
		assert.Equal(t, dev, only(t), "back in devdax")
		require.NoError(t, os.Remove(blacklist))
		reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM}) // libdaxctl loads it
		assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}))
	})

	t.Run("blocks that will not change", func(t *testing.T) {
		command(t, "modprobe", "memory-notifier-error-inject")
		if out, err := exec.Command("mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug").CombinedOutput(); err != nil {
			t.Logf("mount debugfs: %s", out)
		}
		const actions = "/sys/kernel/debug/notifier-error-inject/memory/actions/"
		inject := func(action, errno string) {
			require.NoError(t, os.WriteFile(actions+action+"/error", []byte(errno), 0))
		}
		inject("MEM_GOING_ONLINE", "-12")
		refused(t, name, Reconfigure{Mode: ModeSystemRAM}, unix.ENOMEM)
		assert.Equal(t, dev, only(t), "back in devdax")
		inject("MEM_GOING_ONLINE", "0")

		ram := reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM})
		inject("MEM_GOING_OFFLINE", "-16")
		refused(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}, ErrInUse)
		assert.Equal(t, ram, only(t))
		inject("MEM_GOING_OFFLINE", "0")

		// The last blocks refuse; the first come back online.
		injected := make(chan int)
		go func() {
			for {
				devs, err := Lib{}.List()
				if err == nil && len(devs) == 1 && devs[0].OnlineMemblocks != nil && *devs[0].OnlineMemblocks < *ram.TotalMemblocks {
					os.WriteFile(actions+"MEM_GOING_OFFLINE/error", []byte("-16"), 0)
					injected <- *devs[0].OnlineMemblocks
					return
				}
			}
		}()
		refused(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}, ErrInUse)
		t.Logf("%d blocks were still online", <-injected)
		assert.Equal(t, ram, only(t), "all are online again")
		inject("MEM_GOING_OFFLINE", "0")
		assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}))
	})

	for range 2 {
		t.Run("system-ram and back", func(t *testing.T) {
			ram := reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM})
			t.Logf("online=%d total=%d", *ram.OnlineMemblocks, *ram.TotalMemblocks)
			assert.Equal(t, ModeSystemRAM, ram.Mode)
			assert.Empty(t, ram.Path)
			assert.Positive(t, *ram.OnlineMemblocks)
			assert.Equal(t, *ram.TotalMemblocks, *ram.OnlineMemblocks)
			require.NotNil(t, ram.Movable)
			assert.True(t, *ram.Movable)
			grown := memTotal(t) - before
			t.Logf("MemTotal grew by %d MiB", grown>>20)
			assert.EqualValues(t, *ram.OnlineMemblocks*blockSize(t), grown)

			assert.Equal(t, ram, reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM}), "again")
			refused(t, name, Reconfigure{Mode: ModeDevDAX}, ErrMemoryOnline)
			assert.Equal(t, ram, only(t))

			assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}))
			assert.Equal(t, before, memTotal(t))
			assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}), "again")
		})
	}

	t.Run("not online, then online", func(t *testing.T) {
		ram := reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM, NoOnline: true})
		assert.Zero(t, *ram.OnlineMemblocks)
		assert.Nil(t, ram.Movable)
		ram = reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM})
		assert.Equal(t, *ram.TotalMemblocks, *ram.OnlineMemblocks)
		assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX, Offline: true}))

		reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM, NoOnline: true})
		assert.Equal(t, dev, reconfigure(t, name, Reconfigure{Mode: ModeDevDAX}), "offline memory needs no Offline")
	})

	t.Run("not movable", func(t *testing.T) {
		ram := reconfigure(t, name, Reconfigure{Mode: ModeSystemRAM, NoMovable: true})
		require.NotNil(t, ram.Movable)
		assert.False(t, *ram.Movable)
		// It depends on the kernel's use of the memory whether it can be taken offline.
		got, err := Lib{}.Reconfigure(name, Reconfigure{Mode: ModeDevDAX, Offline: true})
		if err == nil {
			assert.Equal(t, dev, got)
			return
		}
		t.Log(err)
		assert.ErrorIs(t, err, ErrInUse)
		assert.Equal(t, ram, only(t), "online as before")
	})
}

// only returns the current state of the only device.
func only(t *testing.T) Device {
	t.Helper()
	devs, err := Lib{}.List()
	require.NoError(t, err)
	require.Len(t, devs, 1)
	return devs[0]
}

func reconfigure(t *testing.T, name string, r Reconfigure) Device {
	t.Helper()
	dev, err := Lib{}.Reconfigure(name, r)
	require.NoError(t, err)
	return dev
}

func refused(t *testing.T, name string, r Reconfigure, want error) {
	t.Helper()
	_, err := Lib{}.Reconfigure(name, r)
	require.ErrorIs(t, err, want)
	t.Log(err)
}

// setPolicy sets the kernel's policy for new memory until the end of the test.
func setPolicy(t *testing.T, policy string) {
	t.Helper()
	old, err := os.ReadFile(autoOnline)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(autoOnline, []byte(policy), 0))
	t.Cleanup(func() { assert.NoError(t, os.WriteFile(autoOnline, old, 0)) })
}

func ndctl(t *testing.T, args ...string) {
	t.Helper()
	command(t, "ndctl", args...)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, args, out)
}

func memTotal(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/meminfo")
	require.NoError(t, err)
	kib, err := strconv.Atoi(strings.Fields(string(b))[1])
	require.NoError(t, err)
	return kib << 10
}

func blockSize(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/sys/devices/system/memory/block_size_bytes")
	require.NoError(t, err)
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 16, 64)
	require.NoError(t, err)
	return int(n)
}
