package hostconf

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	files "github.com/pmemctl/pmemctl/deploy/host"
	"github.com/pmemctl/pmemctl/internal/errs"
)

// machine is a tree of files as sysfs, /dev and /etc have them.
type machine struct {
	t    *testing.T
	dir  string
	sees []string // what the host's lvm sees
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, dir: t.TempDir()}
	m.file("etc/fstab", "UUID=aaaa / ext4 defaults 0 1\n")
	m.file("sys/class/block/.keep", "")
	return m
}

func (m *machine) host() Host {
	return Host{Root: m.dir, Kernel: m.dir, LVM: func(context.Context, string) ([]string, error) { return m.sees, nil }}
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) file(name, text string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	require.NoError(m.t, os.WriteFile(m.path(name), []byte(text), 0o644))
}

func (m *machine) read(name string) string {
	data, err := os.ReadFile(m.path(name))
	require.NoError(m.t, err)
	return string(data)
}

// link creates a link below the machine's root to a file there.
func (m *machine) link(name, target string) {
	m.t.Helper()
	require.NoError(m.t, os.MkdirAll(filepath.Dir(m.path(name)), 0o755))
	require.NoError(m.t, os.Symlink(m.path(target), m.path(name)))
}

// pfn creates the block device of a namespace below a pfn device.
func (m *machine) pfn(block, namespace string) {
	m.file("sys/devices/region0/pfn-"+block+"/namespace", namespace+"\n")
	dir := "sys/devices/region0/pfn-" + block + "/block/" + block
	m.file(dir+"/dev", "259:0\n")
	m.link(dir+"/device", "sys/devices/region0/pfn-"+block)
	m.link("sys/class/block/"+block, dir)
}

// fsdax creates a namespace with its block device below a pfn device.
func (m *machine) fsdax(block, namespace, name string) {
	m.file("sys/devices/region0/"+namespace+"/alt_name", name+"\n")
	m.pfn(block, namespace)
}

// unlabelled is a namespace without a label, with an info block.
func (m *machine) unlabelled(block, namespace, uuid string) {
	m.file("sys/devices/region0/"+namespace+"/size", "0\n")
	m.file("sys/devices/region0/pfn-"+block+"/uuid", uuid+"\n")
	m.pfn(block, namespace)
}

func (m *machine) raw(block, namespace, name string) {
	m.file("sys/devices/region0/"+namespace+"/alt_name", name+"\n")
	dir := "sys/devices/region0/" + namespace + "/block/" + block
	m.file(dir+"/dev", "259:1\n")
	m.link(dir+"/device", "sys/devices/region0/"+namespace)
	m.link("sys/class/block/"+block, dir)
}

func (m *machine) partition(disk, dir, name string) {
	m.file(dir+"/"+name+"/partition", "1\n")
	m.link("sys/class/block/"+name, dir+"/"+name)
}

func (m *machine) dm(name, uuid string, slaves ...string) {
	dir := "sys/devices/virtual/block/" + name
	m.file(dir+"/dm/uuid", uuid+"\n")
	m.file(dir+"/dev", "254:0\n")
	require.NoError(m.t, os.MkdirAll(m.path(dir+"/slaves"), 0o755))
	for _, s := range slaves {
		m.link(dir+"/slaves/"+s, "sys/class/block/"+s)
	}
	m.link("sys/class/block/"+name, dir)
}

func TestDevices(t *testing.T) {
	m := newMachine(t)
	m.fsdax("pmem0", "namespace0.3", "pmemctl=pmemvg")
	m.fsdax("pmem1", "namespace0.1", "pmemctl:db")
	m.fsdax("pmem2", "namespace0.2", "pmemctl+-db")
	m.fsdax("pmem3", "namespace0.4", "pmemctl*pmemvg")
	m.fsdax("pmem4", "namespace0.5", "")
	m.fsdax("pmem5", "namespace0.6", "pmemctl")    // a person's own
	m.fsdax("pmem6", "namespace0.7", "pmemctlfoo") // likewise
	m.raw("pmem7", "namespace0.8", "pmemctl+new")
	m.raw("pmem8", "namespace0.9", "other")
	m.partition("pmem1", "sys/devices/region0/pfn-pmem1/block/pmem1", "pmem1p1")
	m.partition("pmem8", "sys/devices/region0/namespace0.9/block/pmem8", "pmem8p1")
	m.dm("dm-0", "LVM-abc", "pmem0", "pmem3")
	m.dm("dm-1", "LVM-abd", "pmem0", "pmem4") // partly on a device of others
	m.dm("dm-2", "LVM-abe")
	m.dm("dm-3", "CRYPT-abc", "pmem1") // opened on this host
	m.dm("dm-4", "LVM-tenant", "pmem1p1")
	m.file("sys/class/block/sda/dev", "8:0\n")
	m.unlabelled("pmem9", "namespace9.0", "706d656d-6374-8201-8000-000000000000")
	m.unlabelled("pmem10", "namespace10.0", "0f3a3ae0-33bf-4c86-9e32-8a9b0a1b8e5d")
	m.dm("dm-5", "LVM-abf", "pmem9")
	m.dm("dm-6", "LVM-abg", "pmem10")
	own, err := m.host().devices()
	require.NoError(t, err)
	assert.Equal(t, []string{"pmem0", "pmem1", "pmem1p1", "pmem2", "pmem3", "pmem7", "pmem9", "dm-0", "dm-4", "dm-5"}, own)
}

func states(findings []Finding) map[string]State {
	states := map[string]State{}
	for _, f := range findings {
		states[f.Check] = f.State
	}
	return states
}

func (m *machine) check() ([]Finding, map[string]State) {
	findings, err := m.host().Check(context.Background())
	require.NoError(m.t, err)
	return findings, states(findings)
}

// The user's files are unchanged, and everything written can be removed.
func TestSetupAndRemove(t *testing.T) {
	m := newMachine(t)
	const conf = "# my own\nlocal { }"
	m.file("etc/lvm/lvm.conf", "devices {\n\t# global_filter = [ \"a|.*|\" ]\n}\n")
	m.file("etc/lvm/lvmlocal.conf", conf)
	m.file("etc/initramfs-tools/initramfs.conf", "MODULES=most\n")
	require.NoError(t, os.MkdirAll(m.path("etc/initramfs-tools/hooks"), 0o755))
	_, before := m.check()
	assert.Equal(t, map[string]State{"udev rule": Problem, "udev links": OK, "LVM": Problem, "initramfs": Problem}, before)

	changes, err := m.host().Setup(context.Background(), false)
	require.NoError(t, err)
	assert.Len(t, changes, 4)
	assert.Equal(t, files.UdevRules, m.read("etc/udev/rules.d/12-pmemctl.rules"))
	assert.Equal(t, files.UdevRulesEnd, m.read("etc/udev/rules.d/98-pmemctl.rules"))
	assert.Equal(t, conf+"\n"+files.LVMFilter, m.read("etc/lvm/lvmlocal.conf"))
	info, err := os.Stat(m.path("etc/initramfs-tools/hooks/pmemctl"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), info.Mode().Perm())
	_, after := m.check()
	assert.Equal(t, map[string]State{"udev rule": OK, "udev links": OK, "LVM": OK, "initramfs": OK}, after)

	changes, err = m.host().Setup(context.Background(), false)
	require.NoError(t, err)
	assert.Empty(t, changes, "the second time there is nothing to do")

	m.file("boot/initrd.img-1", "")
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(m.path("boot/initrd.img-1"), old, old))
	_, stale := m.check()
	assert.Equal(t, Problem, stale["initramfs"], "an initramfs from before has no rule")

	_, err = m.host().Remove(context.Background())
	require.NoError(t, err)
	assert.Equal(t, conf+"\n", m.read("etc/lvm/lvmlocal.conf"))
	for _, name := range []string{"etc/udev/rules.d/12-pmemctl.rules", "etc/udev/rules.d/98-pmemctl.rules", "etc/initramfs-tools/hooks/pmemctl"} {
		assert.NoFileExists(t, m.path(name))
	}
	left, err := filepath.Glob(m.path("etc/*/rules.d/*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestSetupKeepsForeignFiles(t *testing.T) {
	for name, text := range map[string]string{
		"lvm.conf":      "devices {\n\tglobal_filter=[ \"a|.*|\" ]\n}\n",
		"lvmlocal.conf": "devices/global_filter = [ \"r|/dev/sdb|\" ]\n",
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.file("etc/lvm/"+name, text)
			m.file("usr/lib/udev/rules.d/12-pmemctl.rules", files.UdevRules)
			m.file("usr/lib/udev/rules.d/98-pmemctl.rules", files.UdevRulesEnd)
			changes, err := m.host().Setup(context.Background(), false)
			require.NoError(t, err)
			require.Len(t, changes, 1, "the package's rules are enough")
			assert.Contains(t, changes[0].Next, `"r|^/dev/disk/pmemctl/|", "r|^/dev/pmem|"`)
			assert.Equal(t, text, m.read("etc/lvm/"+name))
			m.fsdax("pmem0", "namespace0.0", "pmemctl:db")
			m.sees = []string{"/dev/sda", "/dev/pmem0"}
			findings, state := m.check()
			assert.Equal(t, Problem, state["LVM"])
			assert.Contains(t, findings[2].Detail, "/dev/pmem0")
			assert.NotContains(t, findings[2].Detail, "/dev/sda")
		})
	}
	t.Run("rule", func(t *testing.T) {
		m := newMachine(t)
		m.file("etc/udev/rules.d/12-pmemctl.rules", "# mine\n")
		_, err := m.host().Setup(context.Background(), true)
		assert.True(t, errs.Is(err, errs.Conflict), "%v", err)
		_, err = m.host().Remove(context.Background())
		require.NoError(t, err)
		assert.Equal(t, "# mine\n", m.read("etc/udev/rules.d/12-pmemctl.rules"))
	})
	t.Run("rule of an older version", func(t *testing.T) {
		m := newMachine(t)
		m.file("etc/udev/rules.d/12-pmemctl.rules", "# Installed by pmemctl. Old.\n")
		_, state := m.check()
		assert.Equal(t, Problem, state["udev rule"])
		_, err := m.host().Setup(context.Background(), false)
		require.NoError(t, err)
		_, state = m.check()
		assert.Equal(t, OK, state["udev rule"])
	})
	t.Run("devices file", func(t *testing.T) {
		m := newMachine(t)
		m.file("etc/lvm/lvm.conf", "")
		m.file("etc/lvm/devices/system.devices", "")
		_, err := m.host().Setup(context.Background(), false)
		require.NoError(t, err)
		assert.NoFileExists(t, m.path("etc/lvm/lvmlocal.conf"), "lvm would warn of a filter that it does not use")
		_, state := m.check()
		assert.Equal(t, OK, state["LVM"])
	})
}

// A link that would be missing at the next boot is reported before anything is written.
func TestSetupAndFstab(t *testing.T) {
	m := newMachine(t)
	m.fsdax("pmem0", "namespace0.0", "pmemctl:db")
	m.link("dev/disk/by-uuid/aaaa", "dev/sda1")
	m.link("dev/disk/by-uuid/bbbb", "dev/pmem0")
	for _, line := range []string{"UUID=bbbb /mnt ext4", `UUID="bbbb" /mnt ext4`, "/dev/disk/by-uuid/bbbb /mnt ext4"} {
		m.file("etc/fstab", "UUID=aaaa / ext4\n# UUID=bbbb\n"+line+"\n")
		_, err := m.host().Setup(context.Background(), false)
		require.True(t, errs.Is(err, errs.InUse), "%s: %v", line, err)
		assert.NoFileExists(t, m.path("etc/udev/rules.d/12-pmemctl.rules"))
	}
	m.file("etc/fstab", "UUID=aaaa / ext4\n# UUID=bbbb\n/dev/disk/by-id/pmem-1 /mnt ext4\n")
	_, err := m.host().Setup(context.Background(), false)
	require.NoError(t, err)
}

func TestCheckEffect(t *testing.T) {
	m := newMachine(t)
	m.fsdax("pmem0", "namespace0.0", "pmemctl:db")
	m.file("run/udev/control", "")
	_, state := m.check()
	assert.Equal(t, Problem, state["udev links"], "the rule did not apply")
	m.link("dev/disk/pmemctl/pmem0", "dev/pmem0")
	_, state = m.check()
	assert.Equal(t, OK, state["udev links"])
	m.link("dev/disk/by-uuid/bbbb", "dev/sda1")
	m.link("dev/disk/by-id/pmem-1", "dev/pmem0")
	_, state = m.check()
	assert.Equal(t, OK, state["udev links"], "neither is of a tenant's bytes")
	m.file("run/udev/data/b259:0", "S:disk/pmemctl/pmem0\nE:ID_FS_TYPE=ext4\n")
	_, state = m.check()
	assert.Equal(t, Problem, state["udev links"], "udevd has read it")
	m.file("run/udev/data/b259:0", "S:disk/pmemctl/pmem0\n")
	m.link("dev/disk/by-label/root", "dev/pmem0")
	_, state = m.check()
	assert.Equal(t, Problem, state["udev links"], "it has the label of another disk")
}

// The rule is installed by a package, which does not check /etc/fstab.
func TestCheckFstab(t *testing.T) {
	m := newMachine(t)
	m.file("run/udev/control", "")
	m.link("dev/disk/by-uuid/aaaa", "dev/sda1")
	_, state := m.check()
	assert.NotContains(t, state, "fstab")
	m.file("etc/fstab", "UUID=aaaa / ext4\nLABEL=gone /mnt ext4\n/dev/sda2 none swap\n")
	_, state = m.check()
	assert.Equal(t, Note, state["fstab"])
}

func TestCheckLVMWithoutAnswer(t *testing.T) {
	m := newMachine(t)
	m.file("etc/lvm/lvm.conf", "")
	h := m.host()
	h.LVM = func(context.Context, string) ([]string, error) { return nil, errors.New("broken") }
	findings, err := h.Check(context.Background())
	require.NoError(t, err)
	assert.Equal(t, Note, states(findings)["LVM"])
}

func TestCheckMD(t *testing.T) {
	m := newMachine(t)
	m.file("etc/mdadm/mdadm.conf", "#DEVICE partitions\nHOMEHOST <system>\n")
	_, state := m.check()
	assert.Equal(t, Note, state["MD"])
	m.file("etc/mdadm/mdadm.conf", "DEVICE /dev/sd*\n")
	_, state = m.check()
	assert.NotContains(t, state, "MD")
}

func TestServeLogsProblems(t *testing.T) {
	m := newMachine(t)
	var log bytes.Buffer
	Serve(context.Background(), m.dir, slog.New(slog.NewTextHandler(&log, nil)))
	assert.Contains(t, log.String(), "12-pmemctl.rules")
	assert.FileExists(t, m.path("etc/udev/rules.d/12-pmemctl.rules"))
	log.Reset()
	Serve(context.Background(), m.path("nothing"), slog.New(slog.NewTextHandler(&log, nil)))
	assert.Contains(t, log.String(), "is not the host's /etc")
}

// The shell part of the rule for logical volumes must agree with isLogicalVolume.
func TestRuleForLogicalVolumes(t *testing.T) {
	text := strings.ReplaceAll(files.UdevRules, "\\\n", "")
	found := regexp.MustCompile(`(?m)^KERNEL=="dm-\*", .*PROGRAM="/bin/sh -c '(.*)'"`).FindStringSubmatch(text)
	require.Len(t, found, 2)
	m := newMachine(t)
	m.fsdax("pmem0", "namespace0.3", "pmemctl=pmemvg")
	m.fsdax("pmem1", "namespace0.1", "pmemctl:db")
	m.fsdax("pmem2", "namespace0.5", "pmemctl")
	m.raw("pmem3", "namespace0.8", "pmemctl+new")
	m.raw("pmem4", "namespace0.9", "other")
	m.partition("pmem1", "sys/devices/region0/pfn-pmem1/block/pmem1", "pmem1p1")
	m.partition("pmem4", "sys/devices/region0/namespace0.9/block/pmem4", "pmem4p1")
	m.file("sys/devices/sda/size", "1\n")
	m.link("sys/class/block/sda", "sys/devices/sda")
	for n, on := range [][]string{{"pmem0"}, {"pmem0", "pmem1"}, {"pmem1p1"}, {"pmem3"}, {"pmem2"}, {"pmem4"}, {"pmem4p1"}, {"pmem0", "pmem2"}, {"pmem0", "sda"}, {"sda"}, {}} {
		name := "dm-" + strconv.Itoa(n)
		m.dm(name, "LVM-abc", on...)
		script := strings.NewReplacer("/sys%p", m.path("sys/devices/virtual/block/"+name), "$$", "$", "%%", "%").Replace(found[1])
		err := exec.Command("/bin/sh", "-c", script).Run()
		assert.Equal(t, m.host().isLogicalVolume(name), err == nil, "on %v", on)
		assert.Equal(t, n < 4, err == nil, "on %v", on)
	}
}
