package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/hostlock"
	"github.com/pmemctl/pmemctl/internal/lvm"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// fakeHost answers with what it contains.
type fakeHost struct {
	view       volume.View
	damage     []volume.Damage
	deleted    []volume.Volume
	conditions []volume.Condition
	stranded   []volume.Stranded
	held       []hostlock.Held
	mapped     mount.Mapped
	// The errors of the calls of those names.
	lookErr, conditionsErr, strandedErr, heldErr, mapErr error
}

func (f *fakeHost) LookAtEverything(context.Context) (volume.View, error) { return f.view, f.lookErr }
func (f *fakeHost) Damage(volume.View) []volume.Damage                    { return f.damage }
func (f *fakeHost) DeletedIn(volume.View) []volume.Volume                 { return f.deleted }
func (f *fakeHost) Conditions(context.Context, volume.View, bool) ([]volume.Condition, error) {
	return f.conditions, f.conditionsErr
}
func (f *fakeHost) Stranded() ([]volume.Stranded, error) { return f.stranded, f.strandedErr }
func (f *fakeHost) HeldLocks() ([]hostlock.Held, error)  { return f.held, f.heldErr }
func (f *fakeHost) MapFile(string) (mount.Mapped, error) { return f.mapped, f.mapErr }

func pointer[T any](v T) *T { return &v }

// healthy is a host without any problem.
func healthy(t *testing.T) (*fakeHost, *Checker) {
	dir := t.TempDir()
	for _, d := range []string{"plugins/csi.pmemctl.io", "plugins_registry"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o700))
	}
	for _, f := range []string{"plugins/csi.pmemctl.io/csi.sock", "plugins_registry/csi.pmemctl.io-reg.sock"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, f), nil, 0o600))
	}
	run, err := os.MkdirTemp("/dev/shm", "doctor") // a tmpfs
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	const size = 8 * pmem.GiB
	f := &fakeHost{mapped: mount.Mapped{Sync: true, Huge: true}}
	f.view.PMEM = pmem.System{
		Buses:   []pmem.Bus{{Dev: "ndbus0", Provider: "ACPI.NFIT"}},
		DIMMs:   []pmem.DIMM{{Dev: "nmem0", Bus: "ndbus0", State: pmem.StateEnabled, LabelSize: 128 << 10, Health: &pmem.Health{State: "ok", ShutdownState: "clean"}}},
		Regions: []pmem.Region{{Dev: "region0", Bus: "ndbus0", Size: size, AvailableSize: size / 2, MaxAvailableExtent: size / 2, Type: "pmem", State: pmem.StateEnabled, PersistenceDomain: "memory_controller", Labels: true}},
		Namespaces: []pmem.Namespace{{Dev: "namespace0.0", Region: "region0", Mode: pmem.ModeFSDAX, Size: size / 2, RawSize: size / 2, Align: 2 * pmem.MiB,
			Name: "pmemctl=pmemvgregion0", Blockdev: "pmem0", State: pmem.StateEnabled, Labels: true}},
	}
	f.view.LVM.VGs = []lvm.VG{{Name: "pmemvgregion0", UUID: "u0", Size: size / 2, Free: size / 4, Tags: []string{"pmemctl"}, MetadataSize: 1 << 20, MetadataFree: 1 << 19, PVs: []lvm.PV{{Name: "/dev/pmem0"}}}}
	f.conditions = []volume.Condition{{Volume: volume.Volume{Name: "db", Type: volume.TypeLVM, State: volume.Ready, Size: pmem.GiB},
		Mounts: []volume.MountCondition{{Point: mount.Point{Path: "/mnt/db", FSType: mount.Ext4, Options: []string{"rw", "dax=always"}}, DAX: true}}}}
	return f, &Checker{
		Host: f, Kernel: func() Kernel {
			return Kernel{Release: "6.1.0-40-amd64", Bus: true, Drivers: []string{"nd_pmem", "nd_region", "nvdimm"}, Mapper: true}
		},
		Installed: func(string) error { return nil }, RunDir: run, Touch: true, CheckHost: func(context.Context) error { return nil },
		HostConf: func(context.Context) ([]hostconf.Finding, error) {
			return []hostconf.Finding{{Check: "udev rule", State: hostconf.OK, Detail: "installed"}}, nil
		},
		Server: &Server{KubeletDir: dir, Driver: "csi.pmemctl.io",
			Ask: func(_ context.Context, socket string) (string, string, error) {
				assert.Equal(t, filepath.Join(dir, "plugins/csi.pmemctl.io/csi.sock"), socket)
				return "csi.pmemctl.io", "1.0", nil
			},
			Propagates: func(string) (bool, error) { return true, nil }},
	}
}

func TestHealthy(t *testing.T) {
	_, c := healthy(t)
	findings := c.Check(t.Context())
	assert.Equal(t, OK, Worst(findings), findings)
	checks := map[string]bool{}
	for _, f := range findings {
		checks[f.Check] = true
		assert.Empty(t, f.Next, f)
		assert.NotEmpty(t, f.Detail, f)
	}
	for _, check := range []string{"kernel", "modules", "programs", "creation", "bus", "dimm", "region", "namespaces", "volume group", "volume", "erasing", "device mapper", "locks", "state", "host", "csi"} {
		assert.True(t, checks[check], check)
	}
}

// TestFindings makes each finding, and only that one.
func TestFindings(t *testing.T) {
	type change = func(f *fakeHost, c *Checker)
	dimm := func(do func(*pmem.DIMM)) change { return func(f *fakeHost, _ *Checker) { do(&f.view.PMEM.DIMMs[0]) } }
	flag := func(name string) change { return dimm(func(d *pmem.DIMM) { d.Flags = []string{name} }) }
	health := func(do func(*pmem.Health)) change { return dimm(func(d *pmem.DIMM) { do(d.Health) }) }
	region := func(do func(*pmem.Region)) change {
		return func(f *fakeHost, _ *Checker) { do(&f.view.PMEM.Regions[0]) }
	}
	namespace := func(do func(*pmem.Namespace)) change {
		return func(f *fakeHost, _ *Checker) { do(&f.view.PMEM.Namespaces[0]) }
	}
	vol := func(do func(*volume.Condition)) change { return func(f *fakeHost, _ *Checker) { do(&f.conditions[0]) } }
	unmounted := func(do func(*volume.Condition)) change {
		return vol(func(c *volume.Condition) { c.Mounts = nil; do(c) })
	}
	mounted := func(do func(*volume.MountCondition)) change {
		return vol(func(c *volume.Condition) { do(&c.Mounts[0]) })
	}
	kernel := func(do func(*Kernel)) change {
		return func(_ *fakeHost, c *Checker) {
			k := c.Kernel()
			do(&k)
			c.Kernel = func() Kernel { return k }
		}
	}
	server := func(do func(*Server)) change { return func(_ *fakeHost, c *Checker) { do(c.Server) } }
	without := func(program string) change {
		return func(_ *fakeHost, c *Checker) {
			c.Installed = func(name string) error {
				if name == program {
					return errs.New(errs.Unsupported, name, "not installed", "install the package")
				}
				return nil
			}
		}
	}
	deleted := func(since time.Duration, e volume.Erasure) change {
		return func(f *fakeHost, _ *Checker) {
			e.Since = time.Now().Add(-since)
			f.deleted = []volume.Volume{{Name: "old", RawSize: pmem.GiB, Erasing: &e}}
		}
	}
	broken := errs.New(errs.Busy, "it", "is broken", "mend it")
	for name, c := range map[string]struct {
		change change
		check  string
		object string
		state  State
		detail string
		next   string
	}{
		"old kernel": {kernel(func(k *Kernel) { k.Release = "5.4.0" }), "kernel", "", Warning, "5.4.0 cannot tell", "5.8"},
		"no bus":     {kernel(func(k *Kernel) { k.Bus = false }), "modules", "", Fault, "not loaded", "modprobe nfit"},
		"no nd_pmem": {kernel(func(k *Kernel) { k.Drivers = k.Drivers[1:] }), "modules", "", Fault, "nd_pmem: namespaces have no block device", "modprobe -a nd_pmem"},
		"no mapper":  {kernel(func(k *Kernel) { k.Mapper = false }), "modules", "", Warning, "device mapper", "modprobe dm_mod"},
		"no creation": {func(_ *fakeHost, c *Checker) {
			c.CheckHost = func(context.Context) error {
				return errs.New(errs.Unsupported, "/dev", "is not the host's", "mount the host's /dev into the container")
			}
		}, "creation", "", Fault, "is not the host's", "mount"},
		"no lvm":              {without("lvm"), "programs", "lvm", Fault, "required for lvm volumes", "install"},
		"no e2fsck":           {without("e2fsck"), "programs", "e2fsck", Warning, "checking ext4", "install"},
		"no xfs":              {without("mkfs.xfs"), "programs", "mkfs.xfs", Note, "volumes with XFS", "install"},
		"not readable":        {func(f *fakeHost, _ *Checker) { f.lookErr = broken }, "host", "", Fault, "is broken", "mend it"},
		"scrub":               {func(f *fakeHost, _ *Checker) { f.view.PMEM.Buses[0].ScrubState = "active" }, "bus", "ndbus0", Note, "scrubbed", ""},
		"no region":           {func(f *fakeHost, _ *Checker) { f.view.PMEM.Regions, f.view.LVM.VGs = nil, nil }, "bus", "", Fault, "no region on it", "dimm list"},
		"DIMM disabled":       {dimm(func(d *pmem.DIMM) { d.State = pmem.StateDisabled }), "dimm", "nmem0", Warning, "is disabled", "dmesg"},
		"failed_save":         {flag("failed_save"), "dimm", "nmem0", Fault, "could not save", "backup"},
		"failed_restore":      {flag("failed_restore"), "dimm", "nmem0", Fault, "could not restore", "backup"},
		"failed_flush":        {flag("failed_flush"), "dimm", "nmem0", Fault, "did not flush", "databases"},
		"failed_arm":          {flag("failed_arm"), "dimm", "nmem0", Fault, "not armed", "replaced"},
		"failed_map":          {flag("failed_map"), "dimm", "nmem0", Fault, "not be mapped", "dmesg"},
		"smart_event":         {flag("smart_event"), "dimm", "nmem0", Warning, "event", "dimm list"},
		"locked DIMM":         {flag("locked"), "dimm", "nmem0", Fault, "locked", "unlock"},
		"unknown flag":        {flag("new_flag"), "dimm", "nmem0", Note, "new_flag", ""},
		"health non-critical": {health(func(h *pmem.Health) { h.State = "non-critical" }), "dimm", "nmem0", Warning, "non-critical", "dimm list"},
		"health critical":     {health(func(h *pmem.Health) { h.State = "critical" }), "dimm", "nmem0", Fault, "critical", "replaced"},
		"health fatal":        {health(func(h *pmem.Health) { h.State = "fatal" }), "dimm", "nmem0", Fault, "fatal", "replaced"},
		"spares":              {health(func(h *pmem.Health) { h.AlarmSpares = pointer(true) }), "dimm", "nmem0", Warning, "spare", "replaced"},
		"hot":                 {health(func(h *pmem.Health) { h.AlarmTemperature = pointer(true) }), "dimm", "nmem0", Warning, "too hot", "cooling"},
		"dirty":               {health(func(h *pmem.Health) { h.ShutdownState = "dirty" }), "dimm", "nmem0", Warning, "not shut down cleanly", "databases"},
		"worn":                {health(func(h *pmem.Health) { h.LifeUsedPercentage = pointer(uint(95)) }), "dimm", "nmem0", Warning, "95%", "replaced"},
		"region disabled":     {region(func(r *pmem.Region) { r.State = pmem.StateDisabled }), "region", "region0", Warning, "is disabled", "region enable"},
		"region read-only":    {region(func(r *pmem.Region) { r.ReadOnly = true }), "region", "region0", Warning, "read-only", "another"},
		"no labels":           {region(func(r *pmem.Region) { r.Labels = false }), "region", "region0", Note, "no", "vg init region0 --whole"},
		"region blk":          {region(func(r *pmem.Region) { r.Type = "blk" }), "region", "region0", Note, "of type blk", "another"},
		"media errors":        {region(func(r *pmem.Region) { r.BadblockCount = 8 }), "region", "region0", Warning, "media errors, in blocks of 512 bytes: 8", "region show region0"},
		"labels full":         {region(func(r *pmem.Region) { r.LabelsFull = true }), "region", "region0", Warning, "no free label", "lvm volumes"},
		"persistence domain":  {region(func(r *pmem.Region) { r.PersistenceDomain = "unknown" }), "region", "region0", Note, "power failure", ""},
		"fragmented":          {region(func(r *pmem.Region) { r.MaxAvailableExtent = pmem.GiB }), "region", "region0", Note, "in pieces of at most 1 GiB", ""},
		"alignment":           {namespace(func(n *pmem.Namespace) { n.Align = 4096 }), "namespace", "namespace0.0", Warning, "4 KiB", "clone"},
		"foreign namespace": {func(f *fakeHost, _ *Checker) {
			f.view.PMEM.Namespaces = append(f.view.PMEM.Namespaces, pmem.Namespace{Dev: "namespace0.1", Mode: pmem.ModeDevDAX})
		}, "namespaces", "", Note, "left alone: namespace0.1 (devdax)", ""},
		"two groups":      {func(f *fakeHost, _ *Checker) { f.view.LVM.VGs = append(f.view.LVM.VGs, f.view.LVM.VGs[0]) }, "volume group", "pmemvgregion0", Fault, "several of that name", "vgrename u0"},
		"metadata full":   {func(f *fakeHost, _ *Checker) { f.view.LVM.VGs[0].MetadataFree = 1 }, "volume group", "pmemvgregion0", Warning, "metadata area", "delete volumes"},
		"foreign group":   {func(f *fakeHost, _ *Checker) { f.view.Foreign.VGs = []lvm.VG{{Name: "theirs"}} }, "volume group", "theirs", Note, "left alone", ""},
		"foreign problem": {func(f *fakeHost, _ *Checker) { f.view.Foreign.Problems = []string{"oops"} }, "volume group", "", Note, "oops", ""},
		"damaged group": {func(f *fakeHost, _ *Checker) {
			f.damage = []volume.Damage{{VG: "pmemvgregion0", Reason: "is missing a device", Next: "bring it back"}}
		}, "volume group", "pmemvgregion0", Fault, "is missing", "bring it back"},
		"damaged volume": {func(f *fakeHost, _ *Checker) {
			f.damage = []volume.Damage{{Volume: "db", Reason: "its info block is lost", Next: "keep it"}}
		}, "volume", "db", Fault, "info block", "keep it"},
		"lost region": {func(f *fakeHost, _ *Checker) {
			f.damage = []volume.Damage{{Region: "region7", Reason: "is missing", Next: "look"}}
		}, "region", "region7", Fault, "is missing", "look"},
		"not listed":           {func(f *fakeHost, _ *Checker) { f.conditionsErr = broken }, "volumes", "", Fault, "is broken", "mend it"},
		"being created":        {unmounted(func(v *volume.Condition) { v.State, v.Busy = volume.Creating, true }), "volume", "db", Note, "being created", ""},
		"unfinished":           {unmounted(func(v *volume.Condition) { v.State = volume.Creating }), "volume", "db", Warning, "interrupted", "volume delete db"},
		"damaged":              {unmounted(func(v *volume.Condition) { v.State, v.Health = volume.Damaged, "partial" }), "volume", "db", Fault, "partial", "show db"},
		"device removed":       {unmounted(func(v *volume.Condition) { v.Gone = true }), "volume", "db", Fault, "was removed", "unmount db"},
		"suspended":            {unmounted(func(v *volume.Condition) { v.Suspended = true }), "volume", "db", Fault, "all I/O waits", "resume"},
		"being changed":        {unmounted(func(v *volume.Condition) { v.Suspended, v.Busy = true, true }), "volume", "db", Note, "being changed", ""},
		"not readable content": {unmounted(func(v *volume.Condition) { v.Unreadable = "input/output error" }), "volume", "db", Fault, "input/output error", "show db"},
		"unwell":               {unmounted(func(v *volume.Condition) { v.Health = "has 8 bad blocks" }), "volume", "db", Warning, "8 bad blocks", "show db"},
		"errors":               {mounted(func(m *volume.MountCondition) { m.Fault = mount.Erred }), "volume", "db", Warning, "/mnt/db: its file system has errors", "unmount db /mnt/db"},
		"shut down":            {mounted(func(m *volume.MountCondition) { m.Fault = mount.ShutDown }), "volume", "db", Fault, "/mnt/db: its file system was shut down", "dmesg"},
		"read-only":            {mounted(func(m *volume.MountCondition) { m.Fault = mount.MadeReadOnly }), "volume", "db", Fault, "made read-only", "dmesg"},
		"no DAX":               {mounted(func(m *volume.MountCondition) { m.DAX, m.WhyNoDAX = false, "it is mounted with dax=never" }), "volume", "db", Warning, "/mnt/db: does not use DAX: it is mounted with dax=never", "unmount db"},
		"DAX by file": {mounted(func(m *volume.MountCondition) {
			m.DAX, m.WhyNoDAX, m.Options = false, "each file decides", []string{"rw", "dax=inode"}
		}), "volume", "db", Note, "each file decides", ""},
		"no DAX, no reason": {mounted(func(m *volume.MountCondition) { m.DAX = false }), "volume", "db", Warning, "the reason is not known", "unmount db"},
		"no MAP_SYNC":       {func(f *fakeHost, _ *Checker) { f.mapped.Sync = false }, "volume", "db", Fault, "MAP_SYNC", "unmount db"},
		"small faults":      {func(f *fakeHost, _ *Checker) { f.mapped.Huge = false }, "volume", "db", Warning, "4 KiB", "clone db"},
		"full":              {func(f *fakeHost, _ *Checker) { f.mapErr = errors.New("no space left on device") }, "volume", "db", Warning, "no space", "omit --touch"},
		"erasing":           {deleted(time.Minute, volume.Erasure{Rate: 1, Done: pmem.GiB / 2}), "erasing", "", Note, "1, 512 MiB, the oldest for 1m", ""},
		"waits for erasing": {deleted(time.Minute, volume.Erasure{}), "erasing", "", Note, "1, 1 GiB", ""},
		"erasing abandoned": {deleted(time.Hour, volume.Erasure{}), "erasing", "", Warning, "nothing erases", "pmemctl gc"},
		"stranded": {func(f *fakeHost, _ *Checker) {
			f.stranded = []volume.Stranded{{Name: "pmemvg-db", Node: "/dev/dm-0", VG: "pmemvg", LV: "db"}}
		}, "device mapper", "pmemvg-db", Fault, "was removed", "volume unmount db"},
		"stranded, not LVM's": {func(f *fakeHost, _ *Checker) { f.stranded = []volume.Stranded{{Name: "crypt", Node: "/dev/dm-0"}} }, "device mapper", "crypt", Fault, "was removed", "dmsetup remove crypt"},
		"mapper":              {func(f *fakeHost, _ *Checker) { f.strandedErr = broken }, "device mapper", "", Fault, "is broken", "mend it"},
		"locked": {func(f *fakeHost, _ *Checker) {
			f.held = []hostlock.Held{{Name: "host", Holder: "pmemctl vg init (pid 7)", Since: time.Now()}}
		}, "locks", "host", Note, "by pmemctl vg init (pid 7)", ""},
		"locked for long": {func(f *fakeHost, _ *Checker) {
			f.held = []hostlock.Held{{Name: "host", Holder: "it", Since: time.Now().Add(-time.Hour)}}
		}, "locks", "host", Warning, "1h0m0s", "end it"},
		"locks":              {func(f *fakeHost, _ *Checker) { f.heldErr = broken }, "locks", "", Fault, "is broken", "mend it"},
		"state on a disk":    {func(_ *fakeHost, c *Checker) { c.RunDir = "/proc" }, "state", "/proc", Warning, "not on a tmpfs", "/run"},
		"state not readable": {func(_ *fakeHost, c *Checker) { c.RunDir = "/proc/version/x" }, "state", "/proc/version/x", Fault, "not a directory", "dmesg"},
		"host problem": {func(_ *fakeHost, c *Checker) {
			c.HostConf = func(context.Context) ([]hostconf.Finding, error) {
				return []hostconf.Finding{{Check: "udev rule", State: hostconf.Problem, Detail: "not installed", Next: "pmemctl host setup"}}, nil
			}
		}, "host", "udev rule", Warning, "not installed", "host setup"},
		"host not readable": {func(_ *fakeHost, c *Checker) {
			c.HostConf = func(context.Context) ([]hostconf.Finding, error) { return nil, broken }
		}, "host", "", Warning, "is broken", "mend it"},
		"no server": {server(func(s *Server) { s.Driver = "other" }), "csi", "other", Note, "does not run", ""},
		"server does not answer": {server(func(s *Server) {
			s.Ask = func(context.Context, string) (string, string, error) { return "", "", broken }
		}), "csi", "csi.pmemctl.io", Fault, "is broken", "mend it"},
		"another server": {server(func(s *Server) {
			s.Ask = func(context.Context, string) (string, string, error) { return "theirs", "1", nil }
		}), "csi", "csi.pmemctl.io", Fault, "another driver: theirs", "--driver"},
		"private mounts": {server(func(s *Server) { s.Propagates = func(string) (bool, error) { return false, nil } }), "csi", "mounts", Fault, "private", "make-rshared"},
		"mount table":    {server(func(s *Server) { s.Propagates = func(string) (bool, error) { return false, broken } }), "csi", "mounts", Warning, "cannot be read", "findmnt"},
		"not registered": {server(func(s *Server) {
			_ = os.Remove(filepath.Join(s.KubeletDir, "plugins_registry/csi.pmemctl.io-reg.sock"))
		}), "csi", "registration", Fault, "does not know", "registrar"},
		"no registry": {server(func(s *Server) { _ = os.RemoveAll(filepath.Join(s.KubeletDir, "plugins_registry")) }), "csi", "registration", Fault, "cannot be read", "--kubelet-dir"},
	} {
		t.Run(name, func(t *testing.T) {
			f, checker := healthy(t)
			c.change(f, checker)
			var bad []Finding
			for _, found := range checker.Check(t.Context()) {
				if found.State != OK {
					bad = append(bad, found)
				}
			}
			require.NotEmpty(t, bad)
			got := bad[0]
			assert.Equal(t, []any{c.check, c.object, c.state}, []any{got.Check, got.Object, got.State}, got)
			assert.Contains(t, got.Detail, c.detail)
			assert.Contains(t, got.Next, c.next)
			assert.Equal(t, c.next == "", got.Next == "", got)
			if name != "two groups" {
				assert.Len(t, bad, 1, bad)
			}
			if c.state.Rank() > Note.Rank() {
				assert.NotEmpty(t, got.Next, "the next step")
			}
		})
	}
}

// TestCheckAgain: what is about PMEM is found again, and the rest is kept.
func TestCheckAgain(t *testing.T) {
	f, c := healthy(t)
	earlier := c.Check(t.Context())
	assert.Equal(t, earlier, CheckAgain(t.Context(), f, earlier))
	f.view.PMEM.DIMMs[0].Health.State = "fatal"
	again := CheckAgain(t.Context(), f, earlier)
	assert.Equal(t, Fault, Worst(again))
	assert.Len(t, again, len(earlier))
	assert.Equal(t, Fault, Worst(CheckAgain(t.Context(), f, nil)))
	f.lookErr = errors.New("not recorded")
	assert.Equal(t, earlier, CheckAgain(t.Context(), f, earlier))
}

// TestNoKubelet: a host without Kubernetes is healthy.
func TestNoKubelet(t *testing.T) {
	_, c := healthy(t)
	c.Server.KubeletDir += "/missing"
	assert.Equal(t, OK, Worst(c.Check(t.Context())))
}

// TestReadOnly: without Touch nothing is written, and neither is to a volume mounted read-only.
func TestReadOnly(t *testing.T) {
	f, c := healthy(t)
	f.mapErr = errors.New("must not be called")
	c.Touch = false
	assert.Equal(t, OK, Worst(c.Check(t.Context())))
	c.Touch = true
	f.conditions[0].Mounts[0].Options = []string{"ro", "dax"}
	assert.Equal(t, OK, Worst(c.Check(t.Context())))
}

func TestRunDir(t *testing.T) {
	for want, fs := range map[State]unix.Statfs_t{
		OK: {Type: unix.TMPFS_MAGIC}, Warning: {Type: unix.EXT4_SUPER_MAGIC}, Fault: {Type: unix.TMPFS_MAGIC, Flags: unix.ST_RDONLY},
	} {
		var r report
		checkStateFS(&r, "/run/pmemctl", fs)
		assert.Equal(t, want, Worst(r.findings))
	}
}

func TestThisKernel(t *testing.T) {
	root := t.TempDir()
	k := ThisKernel(root)
	assert.NotEmpty(t, k.Release)
	assert.Equal(t, Kernel{Release: k.Release}, k)
	for _, dir := range []string{"sys/bus/nd/drivers/nd_pmem", "sys/class/misc/device-mapper"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o700))
	}
	assert.Equal(t, Kernel{Release: k.Release, Bus: true, Drivers: []string{"nd_pmem"}, Mapper: true}, ThisKernel(root))
}

func TestCXLRegions(t *testing.T) {
	region := func(granularity, offset uint64) cxl.Region {
		return cxl.Region{Dev: "region0", Granularity: granularity, Size: pmem.GiB, Targets: []cxl.Target{{Serial: 0x12, Offset: offset}, {Serial: 0x34, Offset: offset}}}
	}
	for name, c := range map[string]struct {
		now, saved []cxl.Region
		err        error
		state      State
		detail     string
	}{
		"saved":     {[]cxl.Region{region(256, 0)}, []cxl.Region{region(256, 0)}, nil, OK, "on 0x12,0x34, granularity 256, is saved"},
		"not saved": {[]cxl.Region{region(256, pmem.GiB)}, nil, nil, Warning, "is not saved, so that it will be missing after a boot"},
		"missing":   {nil, []cxl.Region{region(256, 0)}, nil, Fault, "is saved, and does not exist"},
		"differs":   {[]cxl.Region{region(512, 0)}, []cxl.Region{region(256, 0)}, nil, Fault, "it has granularity 512 instead of 256"},
		"broken":    {nil, nil, errs.New(errs.Invalid, "/etc/x", "is not what pmemctl region save wrote", ""), Fault, "is not what pmemctl region save wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &report{}
			Checker{CXLRegions: func() ([]cxl.Region, []cxl.Region, error) { return c.now, c.saved, c.err }}.checkCXLRegions(r)
			require.Len(t, r.findings, 1)
			assert.Equal(t, c.state, r.findings[0].State)
			assert.Contains(t, r.findings[0].Detail, c.detail)
		})
	}
}
