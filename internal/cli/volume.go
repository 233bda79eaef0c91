package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// volumes is what the commands use of the volume service for volumes.
type volumes interface {
	List(context.Context) ([]volume.Volume, error)
	Show(ctx context.Context, name string) (volume.Volume, error)
	Examine(volume.View) []volume.Volume
	Capacity(context.Context) ([]volume.Capacity, error)
	Plan(context.Context, volume.Spec) (volume.Plan, error)
	Create(context.Context, volume.Spec) (v volume.Volume, created bool, err error)
	Clone(ctx context.Context, source string, spec volume.Spec) (volume.Volume, error)
	Expand(ctx context.Context, name string, size, limit uint64) (volume.Volume, error)
	ExpandMax(ctx context.Context, name string) (volume.Volume, error)
	Delete(ctx context.Context, name string, erase bool) (deleted []volume.Volume, err error)
	Erase(context.Context, volume.Volume, volume.EraseRate) error
	Mount(context.Context, volume.MountSpec) (volume.Volume, error)
	Unmount(ctx context.Context, name, path string) (paths []string, err error)
	MountedAt(volume.Volume) []mount.Point
}

func newVolumeCommand(a *app) *cobra.Command {
	return group("volume", "Create, show, expand, copy, mount and delete volumes", "pmemctl volume list",
		a.thenErase(newVolumeCreateCommand(a, nil)), newVolumeListCommand(a), newVolumeShowCommand(a), a.thenErase(newVolumeDeleteCommand(a, nil)),
		a.thenErase(newVolumeExpandCommand(a, nil)), a.thenErase(newVolumeCloneCommand(a, nil)), newVolumeMountCommand(a, nil), newVolumeUnmountCommand(a, nil))
}

// volumeRow is a volume with its mount points.
type volumeRow struct {
	volume.Volume
	Mounts []string `json:"mounts"`
	// DAX says what the first mount point permits; "" if DAX is off.
	DAX string `json:"dax,omitempty"`
}

func (a *app) rowOf(v volume.Volume) volumeRow {
	row := volumeRow{Volume: v, Mounts: []string{}}
	for i, p := range a.service.MountedAt(v) {
		row.Mounts = append(row.Mounts, p.Path)
		if i == 0 {
			row.DAX = daxText(p, v.NoMapSync)
		}
	}
	return row
}

// noteMapSync says that the kernel refuses MAP_SYNC for a volume that is mounted with DAX.
func (a *app) noteMapSync(v volume.Volume) {
	if v.NoMapSync {
		a.note("volume %s: dax, %s", v.Name, pmem.NoMapSync)
	}
}

// noteHealth prints the health of a volume, which does not fit into a column.
func (a *app) noteHealth(v volume.Volume) {
	if v.Health != "" && (v.Erasing == nil || v.Erasing.Failed != "") {
		a.note("volume %s: %s", v.Name, v.Health)
	}
}

func volumeColumns() []column[volumeRow] {
	return []column[volumeRow]{
		{title: "VOLUME", cell: func(v volumeRow) string { return v.Name }},
		{title: "TYPE", cell: func(v volumeRow) string { return string(v.Type) }},
		{title: "SIZE", cell: func(v volumeRow) string { return pmem.FormatSize(v.Size) }},
		{title: "STATE", cell: func(v volumeRow) string { return string(v.State) }},
		{title: "DEVICE", cell: func(v volumeRow) string { return dash(v.Device) }},
		{title: "MOUNTED ON", cell: func(v volumeRow) string { return dash(strings.Join(v.Mounts, ",")) }},
		{title: "RAW", wide: true, cell: func(v volumeRow) string { return pmem.FormatSize(v.RawSize) }},
		{title: "REGIONS", wide: true, cell: func(v volumeRow) string { return dash(strings.Join(v.Regions, ",")) }},
		{title: "VG", wide: true, cell: func(v volumeRow) string { return dash(v.VG) }},
		{title: "NAMESPACE", wide: true, cell: func(v volumeRow) string { return dash(v.Namespace) }},
		{title: "HEALTH", wide: true, cell: func(v volumeRow) string { return dash(v.Health) }},
		{title: "UUID", wide: true, cell: func(v volumeRow) string { return v.UUID }},
		{title: "DAX", wide: true, cell: func(v volumeRow) string { return dash(v.DAX) }},
	}
}

// addPlaceFlags adds the flags for the type and the place of a new volume.
func (a *app) addPlaceFlags(cmd *cobra.Command, spec *volume.Spec, typeHelp string) {
	f := cmd.Flags()
	f.StringVarP((*string)(&spec.Type), "type", "t", "", typeHelp)
	f.StringVar(&spec.Region, "region", "", "use only this `region`")
	f.StringVar(&spec.VG, "vg", "", "use only this volume `group`")
	f.BoolVar(&spec.Stripe, "stripe", false, "stripe an lvm volume across all devices of its group")
	completeValues(cmd, "type", "lvm", "direct")
	_ = cmd.RegisterFlagCompletionFunc("region", a.completeRegions(0))
	_ = cmd.RegisterFlagCompletionFunc("vg", a.completeVGs(0))
}

type volumeCreateOptions struct {
	spec      volume.Spec
	mountPath string // "" is not mounted
	dryRun    bool
	output    outputFlag
}

func newVolumeCreateCommand(a *app, runF runFunc[volumeCreateOptions]) *cobra.Command {
	var o volumeCreateOptions
	cmd := &cobra.Command{
		Use:   "create NAME --type lvm|direct --size SIZE|max",
		Short: "Create a volume",
		Long: `Creates a volume of at least the given size, with an empty file system suited to DAX.

The size is the usable size of the block device; --dry-run shows the overhead on
top of it. If a volume of that name, type and size already exists, it is left
unchanged, so the command can be repeated. Old data cannot be read from a new
volume: the file system shows only what was written through it, and with --fs none
the whole device is zeroed first. With --mount, the volume is then mounted with DAX,
as by "pmemctl volume mount".

With --size max, the volume gets the largest size that is possible now with the other
options, up to --limit; an existing volume is left unchanged, whatever its size. The
space of deleted volumes that are still being erased is not free: "pmemctl gc" waits
for it.`,
		Example: `  pmemctl volume create db --type lvm --size 10Gi
  pmemctl volume create db --type lvm --size 10Gi --dry-run
  pmemctl volume create web --type lvm --size 10Gi --mount /mnt/web
  pmemctl volume create cache --type direct --size 10Gi --region region0 --fs xfs
  pmemctl volume create raw --type lvm --size 10Gi --fs none
  pmemctl volume create big --type direct --size max --region region1`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions, PreRunE: a.asRoot("creating a volume"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if o.spec.Name = args[0]; cmd.Flags().Changed("mount") {
				if o.mountPath, err = mount.RealPath(o.mountPath); err != nil {
					return err
				}
			}
			return runF.or(a.createVolume)(cmd.Context(), &o)
		},
	}
	a.addPlaceFlags(cmd, &o.spec, "`type`: lvm or direct")
	f := cmd.Flags()
	addSizeOrMax(cmd, &o.spec.Size, &o.spec.Max, "minimum size")
	f.Var((*sizeFlag)(&o.spec.Limit), "limit", "maximum size (default: none)")
	f.StringVar(&o.spec.FS, "fs", mount.Ext4, "file `system` to create: ext4, xfs or none")
	f.StringArrayVar(&o.spec.MkfsOptions, "mkfs-option", nil, "`argument` for mkfs; may be repeated")
	f.StringVar(&o.mountPath, "mount", "", "mount the volume on this `directory`, which is created if missing")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be created, and create nothing")
	_ = cmd.MarkFlagDirname("mount")
	_ = cmd.MarkFlagRequired("type")
	completeValues(cmd, "fs", mount.Ext4, mount.XFS, mount.None)
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) createVolume(ctx context.Context, o *volumeCreateOptions) error {
	spec := o.spec
	if err := volume.ValidateNotInline(spec.Name); err != nil {
		return err
	}
	if o.mountPath != "" && spec.FS == mount.None {
		return errs.New(errs.Invalid, "volume "+spec.Name, "--mount and --fs none exclude each other", "omit one of them")
	}
	if o.dryRun {
		plan, err := a.service.Plan(ctx, spec)
		if err != nil {
			return err
		}
		return a.showPlan(o.output, plan)
	}
	if !spec.Max { // which is what is free now
		spec.SpaceWait = volume.AsLongAsItTakes
	}
	v, created, err := a.service.Create(ctx, spec)
	if err != nil {
		return err
	}
	if !created {
		a.say("volume %s already exists", v.Name)
	}
	if o.mountPath != "" {
		v, err := a.service.Mount(ctx, volume.MountSpec{Name: spec.Name, Path: o.mountPath, FS: spec.FS})
		if err != nil {
			return errs.Wrap("", "volume "+spec.Name, "exists, but is not mounted", "", err)
		}
		a.noteMapSync(v)
	}
	return a.showVolume(o.output, v)
}

func (a *app) showVolume(o outputFlag, v volume.Volume) error {
	return show(a, o, "volumes", []volumeRow{a.rowOf(v)}, volumeColumns())
}

func (a *app) showPlan(o outputFlag, p volume.Plan) error {
	if o.structured() {
		return showObject(a.stdout, o, map[string]any{"plan": p})
	}
	where := "region " + p.Region
	if p.Type == volume.TypeLVM {
		where = "volume group " + p.VG
	}
	state := "would be created"
	if p.Exists {
		state = "already exists as requested"
	}
	fmt.Fprintf(a.stdout, "volume %s (%s, in %s) %s\n", p.Name, p.Type, where, state)
	lines := [][2]string{{"requested", exact(p.Asked)}, {"usable", exact(p.Usable)}, {"raw", exact(p.Raw)}, {"overhead", exact(p.Overhead)}}
	if !p.Exists {
		lines = append(lines, [2]string{"free after (raw)", exact(p.FreeAfter)}, [2]string{"largest possible", exact(p.Largest)})
	}
	for _, l := range lines {
		fmt.Fprintf(a.stdout, "  %-18s%s\n", l[0], l[1])
	}
	return nil
}

func newVolumeListCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the volumes", Example: "  pmemctl volume list\n  pmemctl volume list -o wide", Args: cobra.NoArgs,
		PreRunE: a.asRoot("listing volumes"),
	}, func(ctx context.Context, o outputFlag, _ []string) error {
		v, err := a.service.Look(ctx)
		if err != nil {
			return err
		}
		var rows []volumeRow
		for _, vol := range a.service.Examine(v) {
			rows = append(rows, a.rowOf(vol))
			a.noteHealth(vol)
		}
		return errors.Join(show(a, o, "volumes", rows, volumeColumns()), a.damage(v, ""))
	})
}

func newVolumeShowCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "show NAME", Short: "Show a volume", Example: "  pmemctl volume show db\n  pmemctl volume show db -o json", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		PreRunE: a.asRoot("reading volumes"),
	}, func(ctx context.Context, o outputFlag, args []string) error {
		v, err := a.service.Show(ctx, args[0])
		if err != nil {
			return err
		}
		return a.showVolume(o.detailed(), v)
	})
}

type volumeDeleteOptions struct {
	names                                        []string
	force, noErase, ignoreMissing, unmount, wait bool
}

func newVolumeDeleteCommand(a *app, runF runFunc[volumeDeleteOptions]) *cobra.Command {
	var o volumeDeleteOptions
	cmd := &cobra.Command{
		Use: "delete NAME...", Aliases: []string{"rm"}, Short: "Delete and erase volumes that are not in use",
		Long: `Deletes volumes that are not in use, and zeroes their data before their space is free.
With --no-erase the data stays on the medium: no volume shows it, but root can read it.
With --unmount the volumes are unmounted first; a busy volume is not deleted.

The name of a deleted volume is free at once. With --wait=false the command does not
wait until the data is erased: serve-csi erases it in the background or, if that is not
running, a "pmemctl gc" that this command starts. If erasing is interrupted, serve-csi,
"pmemctl gc" or the same command continues it.`,
		Example: `  pmemctl volume delete db
  pmemctl volume delete db cache --unmount --force
  pmemctl volume delete db --force --wait=false`,
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVolumes(0), PreRunE: a.asRoot("deleting a volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runF.or(a.deleteVolumes)(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.force, "force", false, "do not ask")
	f.BoolVar(&o.noErase, "no-erase", false, "leave the data on the medium")
	f.BoolVar(&o.unmount, "unmount", false, "unmount the volume first")
	f.BoolVar(&o.wait, "wait", true, "wait until the volume is erased")
	f.BoolVar(&o.ignoreMissing, "ignore-missing", false, "succeed if a volume does not exist")
	return cmd
}

func (a *app) deleteVolumes(ctx context.Context, o *volumeDeleteOptions) error {
	for _, name := range o.names {
		if err := volume.ValidateName(name); err != nil {
			return err
		}
		if err := a.confirm(o.force, "Volume "+name+" and its data will be lost."); err != nil {
			return err
		}
		deleted, err := a.unmountAndDelete(ctx, name, o)
		if o.ignoreMissing && errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if len(a.etc.Persisted(name)) > 0 {
			a.note("volume %s: /etc/fstab mounts it at boot; to end that: pmemctl volume unmount %s --persist", name, name)
		}
		if !o.wait && len(deleted) > 0 {
			a.say("volume %s deleted; its space is free when it is erased: pmemctl capacity", name)
			continue
		}
		for _, vol := range deleted {
			if err := a.service.Erase(ctx, vol, volume.EraseRate{}); err != nil {
				return err
			}
		}
		a.say("volume %s deleted", name)
	}
	return nil
}

func (a *app) unmountAndDelete(ctx context.Context, name string, o *volumeDeleteOptions) ([]volume.Volume, error) {
	if o.unmount {
		// A partly deleted volume is mounted nowhere, and deleting it continues.
		if _, err := a.service.Unmount(ctx, name, ""); err != nil && !errs.Is(err, errs.NotFound) {
			return nil, err
		}
	}
	return a.service.Delete(ctx, name, !o.noErase)
}

type volumeExpandOptions struct {
	name   string
	size   uint64
	max    bool
	output outputFlag
}

func newVolumeExpandCommand(a *app, runF runFunc[volumeExpandOptions]) *cobra.Command {
	var o volumeExpandOptions
	cmd := &cobra.Command{
		Use: "expand NAME --size SIZE|max", Short: "Expand an lvm volume and its file system, also while it is mounted",
		Long: `Expands an lvm volume and its file system, also while it is mounted. --size is the size
that the volume has afterwards.

With --size max, the volume gets all the space that can be added to it now; if there is
none, nothing is changed. The space of deleted volumes that are still being erased is
not free: "pmemctl gc" waits for it.`,
		Example: "  pmemctl volume expand db --size 20Gi\n  pmemctl volume expand db --size max",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1), PreRunE: a.asRoot("expanding a volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := positive(cmd, "size"); err != nil {
				return err
			}
			o.name = args[0]
			return runF.or(a.expandVolume)(cmd.Context(), &o)
		},
	}
	addSizeOrMax(cmd, &o.size, &o.max, "new minimum size")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) expandVolume(ctx context.Context, o *volumeExpandOptions) error {
	expand := func() (volume.Volume, error) { return a.service.Expand(ctx, o.name, o.size, 0) }
	if o.max {
		expand = func() (volume.Volume, error) { return a.service.ExpandMax(ctx, o.name) }
	}
	v, err := expand()
	if err != nil {
		return err
	}
	if !o.max && v.Size >= o.size+volume.ExtentSize*uint64(max(v.Stripes, 1)) {
		a.note("volume %s has %s, more than the requested %s; a volume never shrinks", v.Name, pmem.FormatSize(v.Size), pmem.FormatSize(o.size))
	}
	return a.showVolume(o.output, v)
}

type volumeCloneOptions struct {
	source string
	spec   volume.Spec
	output outputFlag
}

func newVolumeCloneCommand(a *app, runF runFunc[volumeCloneOptions]) *cobra.Command {
	var o volumeCloneOptions
	cmd := &cobra.Command{
		Use: "clone SOURCE NAME", Short: "Copy a volume that is not in use to a new one",
		Long: `Copies a volume that is not in use to a new one, which may be larger and of the
other type. Use this to get a larger direct volume.`,
		Example: `  pmemctl volume clone db db-copy
  pmemctl volume clone cache larger-cache --size 20Gi
  pmemctl volume clone cache db --type lvm`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeVolumes(1), PreRunE: a.asRoot("copying a volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := positive(cmd, "size"); err != nil {
				return err
			}
			o.source, o.spec.Name = args[0], args[1]
			return runF.or(a.cloneVolume)(cmd.Context(), &o)
		},
	}
	a.addPlaceFlags(cmd, &o.spec, "`type`: lvm or direct (default: that of the source)")
	cmd.Flags().VarP((*sizeFlag)(&o.spec.Size), "size", "s", "minimum size of the copy (default: that of the source)")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) cloneVolume(ctx context.Context, o *volumeCloneOptions) error {
	spec := o.spec
	if err := volume.ValidateNotInline(spec.Name); err != nil {
		return err
	}
	spec.SpaceWait = volume.AsLongAsItTakes
	v, err := a.service.Clone(ctx, o.source, spec)
	if err != nil {
		return err
	}
	return a.showVolume(o.output, v)
}

type volumeMountOptions struct {
	spec    volume.MountSpec
	persist bool
}

func newVolumeMountCommand(a *app, runF runFunc[volumeMountOptions]) *cobra.Command {
	var o volumeMountOptions
	m := &o.spec
	cmd := &cobra.Command{
		Use: "mount NAME PATH", Short: "Mount a volume with DAX",
		Long: `Mounts a volume on a directory, which is created if missing, and asks the kernel
whether DAX is in effect; if it is not, the volume is unmounted again. An all-zero
volume is formatted first; a volume with content other than a file system is left
unchanged.

With --persist, a line in /etc/fstab mounts the volume at each boot, by its name. The
host boots without it if it cannot be mounted.`,
		Example: `  pmemctl volume mount db /mnt/db
  pmemctl volume mount db /mnt/db --persist
  pmemctl volume mount db /mnt/db --options noexec,nosuid
  pmemctl volume mount db /mnt/db --read-only --no-dax`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completeVolumes(1)(cmd, args, toComplete)
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		PreRunE: a.asRoot("mounting a volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.Name, m.Path = args[0], args[1]
			return runF.or(a.mountVolume)(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.FS, "fs", "", "required file `system`, or the one to create on an empty volume (default ext4)")
	f.StringSliceVar(&m.Options, "options", nil, "mount `options`, separated by commas")
	f.BoolVar(&m.NoDAX, "no-dax", false, "mount without DAX")
	f.BoolVar(&m.ReadOnly, "read-only", false, "mount read-only")
	f.BoolVar(&o.persist, "persist", false, "also mount it at each boot")
	completeValues(cmd, "fs", mount.Ext4, mount.XFS)
	return cmd
}

func (a *app) mountVolume(ctx context.Context, o *volumeMountOptions) error {
	m := &o.spec
	entry, err := fstabEntry(*m)
	if o.persist && err == nil {
		err = a.etc.MayPersist(entry)
	}
	if o.persist && err != nil {
		return err
	}
	v, err := a.service.Mount(ctx, *m)
	if err != nil {
		return err
	}
	if o.persist {
		err := a.service.ChangeHost(ctx, func() error {
			_, err := a.etc.Persist(entry)
			return err
		})
		if err != nil {
			return errs.Wrap("", "volume "+m.Name, "is mounted on "+m.Path+", but will not be at the next boot", "", err)
		}
	}
	a.say("%s is mounted on %s", v.Device, m.Path)
	if !m.NoDAX {
		a.noteMapSync(v)
	}
	a.noteHealth(v)
	return nil
}

type volumeUnmountOptions struct {
	name    string
	path    string // "" is everywhere
	persist bool
}

func newVolumeUnmountCommand(a *app, runF runFunc[volumeUnmountOptions]) *cobra.Command {
	var o volumeUnmountOptions
	cmd := &cobra.Command{
		Use: "unmount NAME", Aliases: []string{"umount"}, Short: "Unmount a volume", Example: "  pmemctl volume unmount db\n  pmemctl volume unmount db --path /mnt/db\n  pmemctl volume unmount db --persist", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		PreRunE: a.asRoot("unmounting a volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runF.or(a.unmountVolume)(cmd.Context(), &o)
		},
	}
	cmd.Flags().StringVar(&o.path, "path", "", "unmount only from this `directory` (default: from everywhere)")
	cmd.Flags().BoolVar(&o.persist, "persist", false, "also do not mount it at boot any more")
	return cmd
}

func (a *app) unmountVolume(ctx context.Context, o *volumeUnmountOptions) error {
	paths, err := a.service.Unmount(ctx, o.name, o.path)
	if err == nil {
		for _, p := range paths {
			a.say("%s unmounted", p)
		}
	}
	if !o.persist {
		if left := a.etc.Persisted(o.name); err == nil && len(left) > 0 {
			a.note("volume %s: is mounted on %s again at the next boot; to end that: pmemctl volume unmount %s --persist", o.name, strings.Join(left, ", "), o.name)
		}
		return err
	}
	// The line may have outlived the volume, or its mount.
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	path := o.path
	if path != "" {
		var failed error
		if path, failed = filepath.Abs(path); failed != nil {
			return failed
		}
	}
	var removed []string
	failed := a.service.ChangeHost(ctx, func() (err error) {
		removed, err = a.etc.Unpersist(o.name, path)
		return err
	})
	if len(removed) > 0 {
		err = nil
	}
	return errors.Join(err, failed)
}

func newCapacityCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "capacity", Short: "Show the space for new volumes, in usable bytes", Example: "  pmemctl capacity\n  pmemctl capacity -o wide", Args: cobra.NoArgs,
		PreRunE: a.asRoot("reading capacities"),
	}, func(ctx context.Context, o outputFlag, _ []string) error {
		all, err := a.service.Capacity(ctx)
		if err != nil {
			return err
		}
		return show(a, o, "capacities", all, []column[volume.Capacity]{
			{title: "TYPE", cell: func(c volume.Capacity) string { return string(c.Type) }},
			{title: "IN", cell: func(c volume.Capacity) string { return c.Region + c.VG }},
			{title: "TOTAL", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Total) }},
			{title: "FREE", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Free) }},
			{title: "ERASING", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Erasing) }},
			{title: "LARGEST VOLUME", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Largest) }},
			{title: "LARGEST IN BYTES", wide: true, cell: func(c volume.Capacity) string { return fmt.Sprint(c.Largest) }},
			{title: "NOTE", cell: func(c volume.Capacity) string { return dash(c.Reason) }},
		})
	})
}
