package report

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// filesOf are the files of an archive of a state.
func filesOf(t testing.TB, s State, others ...File) []File {
	file, err := s.File()
	require.NoError(t, err)
	return append([]File{file}, others...)
}

func sample() State {
	db := volume.Volume{Name: "pvc-7", Type: volume.TypeLVM, State: volume.Ready, Size: pmem.GiB, Device: "/dev/mapper/pmemvg-pvc--7", Regions: []string{"region0"}, VG: "pmemvg", UUID: "u"}
	mounted := volume.Mounted{Point: mount.Point{Path: "/mnt/secret", FSType: "ext4", Options: []string{"rw", "dax"}}, Size: pmem.GiB}
	return State{
		Format: format, Version: "1.0", Time: time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC),
		PMEM: pmem.System{Regions: []pmem.Region{{Dev: "region0", LabelsFull: true}},
			Namespaces: []pmem.Namespace{{Dev: "namespace0.0", Name: "pmemctl:pvc-7", InfoUUID: "info", Blockdev: "pmem0"}}},
		Hidden:  hidden{LabelsFull: []string{"region0"}, InfoUUIDs: map[string]string{"namespace0.0": "info"}},
		LVM:     lvm.State{VGs: []lvm.VG{{Name: "pmemvg", LVs: []lvm.LV{{Name: "pvc-7", VG: "pmemvg", Active: true}}}}},
		Volumes: []volume.Volume{db}, Conditions: []volume.Condition{{Volume: db, Mounts: []volume.MountCondition{{Point: mounted.Point, DAX: true}}}},
		Mounted: map[string][]volume.Mounted{"/dev/mapper/pmemvg-pvc--7": {mounted}},
		Damage:  []volume.Damage{{VG: "pmemvg", Volumes: []string{"pvc-8"}, Reason: "it had 1: pvc-8"}},
	}
}

// TestArchive: what is written is read again, also the fields that no command prints.
func TestArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.tar.gz")
	require.NoError(t, Create(path, filesOf(t, sample(), File{Name: "dmesg.txt", Data: []byte("hello\n")})))
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	host, err := Open(path)
	require.NoError(t, err)
	assert.Equal(t, sample(), host.state)
	assert.True(t, host.state.PMEM.Regions[0].LabelsFull)
	assert.Equal(t, "info", host.state.PMEM.Namespaces[0].InfoUUID)
	vol, err := host.Show(t.Context(), "pvc-7")
	require.NoError(t, err)
	assert.Equal(t, "/mnt/secret", host.MountedAt(vol)[0].Path)
	err = Create(path, filesOf(t, sample()))
	assert.Equal(t, errs.Conflict, errs.KindOf(err), "an archive is not overwritten")
	host, err = Open(path)
	require.NoError(t, err)
	assert.Equal(t, sample(), host.state)
}

// TestCreateFails: nothing half written is left.
func TestCreateFails(t *testing.T) {
	assert.Error(t, Create(filepath.Join(t.TempDir(), "missing/r.tar.gz"), filesOf(t, sample())))
	path := filepath.Join(t.TempDir(), "r.tar.gz")
	assert.Error(t, Create(path, []File{{Name: "a\x00b", Data: []byte("x")}}), "tar has no such name")
	assert.NoFileExists(t, path)
	s := sample()
	s.Time = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) // JSON has no such year
	_, err := s.File()
	assert.Error(t, err)
}

func TestOpenBad(t *testing.T) {
	dir := t.TempDir()
	archive := func(name string, content string) []byte {
		var buf bytes.Buffer
		zip := gzip.NewWriter(&buf)
		w := tar.NewWriter(zip)
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600}))
		_, err := io.WriteString(w, content)
		require.NoError(t, err)
		require.NoError(t, errors.Join(w.Close(), zip.Close()))
		return buf.Bytes()
	}
	good := archive(directory+stateFile, `{"format": 1}`)
	for name, c := range map[string]struct {
		data []byte
		kind errs.Kind
		text string
	}{
		"no gzip":    {[]byte("hello"), errs.Invalid, "is not a report"},
		"truncated":  {good[:len(good)/2], errs.Invalid, "is not a report"},
		"no state":   {archive("other", "{}"), errs.Invalid, "has no state.json"},
		"no JSON":    {archive(directory+stateFile, "{"), errs.Invalid, "is not a report"},
		"new format": {archive(directory+stateFile, `{"format": 2, "version": "9.9"}`), errs.Unsupported, "has format 2 of pmemctl 9.9"},
	} {
		path := filepath.Join(dir, "a")
		require.NoError(t, os.WriteFile(path, c.data, 0o600))
		_, err := Open(path)
		assert.Equal(t, c.kind, errs.KindOf(err), name)
		assert.ErrorContains(t, err, c.text, name)
	}
	_, err := Open(filepath.Join(dir, "missing"))
	assert.Equal(t, errs.NotFound, errs.KindOf(err))
}

func FuzzReadState(f *testing.F) {
	var buf bytes.Buffer
	require.NoError(f, write(&buf, filesOf(f, sample())))
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := readState(bytes.NewReader(data)); err == nil {
			NewHost(s)
		}
	})
}

// TestHashNames: no name stays, equal names stay equal, and the host is otherwise the same.
func TestHashNames(t *testing.T) {
	files := []File{{Name: "log/pvc-7.log"}, {Name: "var/lib/pmemctl/lvm/g/1.vg"},
		{Name: "proc/pvc-7", What: "a file", Data: []byte("create pvc-7 on node-a: /mnt/secret/x pvc-77 pmemvg-pvc--7 xpvc-7 /mnt/a\\040b\n")}}
	named := sample()
	// Names that look like something else, or are elsewhere only.
	for _, name := range []string{"11", "2026", "region0", "namespace0.0", "true"} {
		named.Volumes = append(named.Volumes, volume.Volume{Name: name, State: volume.Ready})
	}
	named.Damage = append(named.Damage, volume.Damage{Volume: "lost-one", Reason: "volume lost-one is lost"})
	named.Stranded = []volume.Stranded{{Name: "pmemvg-gone--one", LV: "gone-one", VG: "pmemvg"}, {Name: "cryptic"}}
	named.Locks = []hostlock.Held{{Name: "volume-locked-one", Holder: "pmemctl volume create locked-one (pid 7)"}}
	named.Mounted["/dev/pmem1"] = []volume.Mounted{{Point: mount.Point{Path: "/mnt/a b"}}}
	named.Findings = []doctor.Finding{{Check: "volume", Object: "lost-one", Detail: "lost-one is lost"}}
	s, hashed, err := HashNames(named, files, "node-a")
	require.NoError(t, err)
	require.Len(t, hashed, 1, "files with former names are omitted")
	assert.Equal(t, named.Time, s.Time)
	assert.Equal(t, "info", NewHost(s).state.PMEM.Namespaces[0].InfoUUID)
	text, err := json.Marshal(s)
	require.NoError(t, err)
	for _, name := range []string{"pvc-7", "pvc--7", "pvc-8", "/mnt/secret", "lost-one", "gone-one", "gone--one", "cryptic", "locked-one", "/mnt/a b"} {
		assert.NotContains(t, string(text), name)
	}
	name := s.Volumes[0].Name
	assert.NotEqual(t, "pvc-7", name)
	assert.Equal(t, "pmemctl:"+name, s.PMEM.Namespaces[0].Name)
	assert.Equal(t, "/dev/mapper/pmemvg-"+name, s.Volumes[0].Device)
	assert.Len(t, s.Mounted["/dev/mapper/pmemvg-"+name], 1)
	assert.Equal(t, name, s.LVM.VGs[0].LVs[0].Name)
	assert.Equal(t, "pmemvg", s.LVM.VGs[0].Name)
	assert.Equal(t, volume.Ready, s.Volumes[0].State)
	assert.Equal(t, sample().PMEM.Regions[0].Dev, s.PMEM.Regions[0].Dev)
	log := string(hashed[0].Data)
	assert.Equal(t, "proc/"+name, hashed[0].Name)
	assert.NotContains(t, log, "/mnt/a")
	again, _, err := HashNames(named, nil)
	require.NoError(t, err)
	assert.NotEqual(t, name, again.Volumes[0].Name, "the salt")
	assert.Contains(t, log, "create "+name+" on x")
	assert.Contains(t, log, "pvc-77", "another name")
	assert.NotContains(t, log, "node-a")
	assert.NotContains(t, log, "/mnt/secret")
}

// TestCollect: what is relevant is there, and what may be secret is not.
func TestCollect(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"proc/cmdline":                                           "root=/dev/sda password=hunter2 memmap=4G!4G libnvdimm.x=1",
		"proc/version":                                           "Linux",
		"sys/bus/nd/devices/region0/size":                        "4096\n",
		"sys/bus/nd/devices/ndbus0/wait_probe":                   "blocks",
		"sys/class/block/pmem0/queue/dax":                        "1\n",
		"sys/class/block/sda/size":                               "9\n",
		"run/pmemctl/volumes/u":                                  "x",
		"etc/udev/rules.d/12-pmemctl.rules":                      "rule",
		"etc/udev/rules.d/99-other.rules":                        "their secret",
		"etc/shadow":                                             "root:secret",
		"var/log/pods/kube-system_pmemctl-csi-1_u/pmemctl/0.log": strings.Repeat("x", maxFile) + "the end",
		"var/log/pods/other_pod_u/app/0.log":                     "their log",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o600))
	}
	for path, to := range map[string]string{
		"var/log/pods/x_pmemctl-csi-2_u/pmemctl/0.log": "etc/shadow", "run/pmemctl/link": "etc/shadow", "var/log/pods/x_pmemctl-csi-3_u": "var/log/pods/other_pod_u",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700))
		require.NoError(t, os.Symlink(filepath.Join(root, to), filepath.Join(root, path)))
	}
	var ran []string
	c := Collector{Root: root, Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
		ran = append(ran, name)
		switch name {
		case "dmesg":
			return []byte("[1] nd_pmem namespace0.0: hello\n[2] usb: a keyboard typed hunter2\n[3] EXT4-fs (pmem0): error\n"), nil
		case "ndctl":
			return nil, errors.New("ndctl: not installed")
		}
		return []byte(name + " says so"), nil
	}}
	files := map[string]string{}
	for _, f := range c.Collect(t.Context()) {
		assert.NotEmpty(t, f.What, f.Name)
		assert.LessOrEqual(t, len(f.Data), maxFile)
		files[f.Name] = string(f.Data)
		assert.NotContains(t, string(f.Data), "secret", f.Name)
		assert.NotContains(t, string(f.Data), "hunter2", f.Name)
		assert.NotContains(t, string(f.Data), "their", f.Name)
	}
	assert.Equal(t, "memmap=4G!4G libnvdimm.x=1\n", files["proc/cmdline"])
	assert.Equal(t, "[1] nd_pmem namespace0.0: hello\n[3] EXT4-fs (pmem0): error\n", files["dmesg.txt"])
	assert.Equal(t, "/sys/bus/nd/devices/region0/size: 4096\n/sys/class/block/pmem0/queue/dax: 1\n", files["sysfs.txt"])
	assert.Equal(t, "lvm says so", files["lvm-fullreport.json"])
	assert.Contains(t, files["errors.txt"], "ndctl-list.json: ndctl: not installed")
	assert.Equal(t, "x", files["run/pmemctl/volumes/u"])
	assert.Equal(t, "rule", files["etc/udev/rules.d/12-pmemctl.rules"])
	assert.True(t, strings.HasSuffix(files["log/kube-system_pmemctl-csi-1_u-0.log"], "the end"))
	assert.Contains(t, ran, "dmsetup")
}
