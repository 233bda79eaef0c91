package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/mount"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func newVolumeCommand(a *app) *cobra.Command {
	return group("volume", "Create, show, expand, copy, mount and delete volumes", "pmemctl volume list",
		a.thenErase(newVolumeCreateCommand(a)), newVolumeListCommand(a), newVolumeShowCommand(a), a.thenErase(newVolumeDeleteCommand(a)),
		a.thenErase(newVolumeExpandCommand(a)), a.thenErase(newVolumeCloneCommand(a)), newVolumeMountCommand(a), newVolumeUnmountCommand(a))
}

// volumeRow is a volume with its mount points.
type volumeRow struct {
	volume.Volume
	Mounts []string `json:"mounts"`
}

func (a *app) rowOf(v volume.Volume) volumeRow {
	row := volumeRow{Volume: v, Mounts: []string{}}
	for _, p := range a.service.MountedAt(v) {
		row.Mounts = append(row.Mounts, p.Path)
	}
	return row
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
	}
}

type placeFlags struct {
	volumeType string
	region, vg string
	stripe     bool
}

func (p *placeFlags) add(a *app, cmd *cobra.Command, typeHelp string) {
	f := cmd.Flags()
	f.StringVarP(&p.volumeType, "type", "t", "", typeHelp)
	f.StringVar(&p.region, "region", "", "use only this `region`")
	f.StringVar(&p.vg, "vg", "", "use only this volume `group`")
	f.BoolVar(&p.stripe, "stripe", false, "stripe an lvm volume across all devices of its group")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"lvm", "direct"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("region", a.completeRegions(0))
	_ = cmd.RegisterFlagCompletionFunc("vg", a.completeVGs(0))
}

func newVolumeCreateCommand(a *app) *cobra.Command {
	var place placeFlags
	var size, limit sizeFlag
	var spec volume.Spec
	var mountPath string
	var dryRun bool
	var output outputFlag
	cmd := &cobra.Command{
		Use:   "create NAME --type lvm|direct --size SIZE",
		Short: "Create a volume",
		Long: `Creates a volume of at least the given size, with an empty file system suited to DAX.

The size is the usable size of the block device; --dry-run shows the overhead on
top of it. If a volume of that name, type and size already exists, it is left
unchanged, so the command can be repeated. Old data cannot be read from a new
volume: the file system shows only what was written through it, and with --fs none
the whole device is zeroed first. With --mount, the volume is then mounted with DAX,
as by "pmemctl volume mount".`,
		Example: `  pmemctl volume create db --type lvm --size 10Gi
  pmemctl volume create db --type lvm --size 10Gi --dry-run
  pmemctl volume create web --type lvm --size 10Gi --mount /mnt/web
  pmemctl volume create cache --type direct --size 10Gi --region region0 --fs xfs
  pmemctl volume create raw --type lvm --size 10Gi --fs none`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("creating a volume"); err != nil {
				return err
			}
			if err := volume.ValidateNotInline(args[0]); err != nil {
				return err
			}
			spec.Name, spec.Type, spec.Size, spec.Limit = args[0], volume.Type(place.volumeType), uint64(size), uint64(limit)
			spec.Region, spec.VG, spec.Stripe = place.region, place.vg, place.stripe
			if cmd.Flags().Changed("mount") {
				if spec.FS == mount.None {
					return errs.New(errs.Invalid, "volume "+spec.Name, "--mount and --fs none exclude each other", "omit one of them")
				}
				var err error
				if mountPath, err = mount.RealPath(mountPath); err != nil {
					return err
				}
			}
			if dryRun {
				plan, err := a.service.Plan(cmd.Context(), spec)
				if err != nil {
					return err
				}
				return a.showPlan(output, plan)
			}
			spec.SpaceWait = volume.AsLongAsItTakes
			v, created, err := a.service.Create(cmd.Context(), spec)
			if err != nil {
				return err
			}
			if !created {
				a.say("volume %s already exists", v.Name)
			}
			if mountPath != "" {
				m := volume.MountSpec{Name: spec.Name, Path: mountPath, FS: spec.FS}
				if _, err := a.service.Mount(cmd.Context(), m); err != nil {
					return errs.Wrap("", "volume "+spec.Name, "exists, but is not mounted", "", err)
				}
			}
			return show(a, output, "volumes", []volumeRow{a.rowOf(v)}, volumeColumns())
		},
	}
	place.add(a, cmd, "`type`: lvm or direct")
	f := cmd.Flags()
	f.VarP(&size, "size", "s", "minimum size, for example 10Gi")
	f.Var(&limit, "limit", "maximum size (default: none)")
	f.StringVar(&spec.FS, "fs", mount.Ext4, "file `system` to create: ext4, xfs or none")
	f.StringArrayVar(&spec.MkfsOptions, "mkfs-option", nil, "`argument` for mkfs; may be repeated")
	f.StringVar(&mountPath, "mount", "", "mount the volume on this `directory`, which is created if missing")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be created, and create nothing")
	_ = cmd.MarkFlagDirname("mount")
	_ = cmd.MarkFlagRequired("type")
	_ = cmd.MarkFlagRequired("size")
	_ = cmd.RegisterFlagCompletionFunc("fs", cobra.FixedCompletions([]string{mount.Ext4, mount.XFS, mount.None}, cobra.ShellCompDirectiveNoFileComp))
	addOutputFlag(cmd, &output)
	return cmd
}

func (a *app) showPlan(output outputFlag, p volume.Plan) error {
	if output == outputJSON || output == outputYAML {
		return showObject(a.stdout, output, map[string]any{"plan": p})
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
	var output outputFlag
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the volumes", Example: "  pmemctl volume list\n  pmemctl volume list -o wide", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("listing volumes"); err != nil {
				return err
			}
			v, err := a.service.Look(cmd.Context())
			if err != nil {
				return err
			}
			rows := []volumeRow{}
			for _, vol := range a.service.Examine(v) {
				rows = append(rows, a.rowOf(vol))
				a.noteHealth(vol)
			}
			return errors.Join(show(a, output, "volumes", rows, volumeColumns()), a.damage(v, ""))
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newVolumeShowCommand(a *app) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a volume", Example: "  pmemctl volume show db\n  pmemctl volume show db -o json", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("reading volumes"); err != nil {
				return err
			}
			v, err := a.service.Show(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if output == outputTable {
				output = outputWide
			}
			return show(a, output, "volumes", []volumeRow{a.rowOf(v)}, volumeColumns())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newVolumeDeleteCommand(a *app) *cobra.Command {
	var force, noErase, ignoreMissing, unmount, wait bool
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
		Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeVolumes(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("deleting a volume"); err != nil {
				return err
			}
			for _, name := range args {
				if err := volume.ValidateName(name); err != nil {
					return err
				}
				if err := a.confirm(force, "Volume "+name+" and its data will be lost."); err != nil {
					return err
				}
				deleted, err := a.unmountAndDelete(cmd.Context(), name, unmount, !noErase)
				if ignoreMissing && errs.Is(err, errs.NotFound) {
					continue
				}
				if err != nil {
					return err
				}
				if !wait && len(deleted) > 0 {
					a.say("volume %s deleted; its space is free when it is erased: pmemctl capacity", name)
					continue
				}
				for _, vol := range deleted {
					if err := a.service.Erase(cmd.Context(), vol, volume.EraseRate{}); err != nil {
						return err
					}
				}
				a.say("volume %s deleted", name)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&force, "force", false, "do not ask")
	f.BoolVar(&noErase, "no-erase", false, "leave the data on the medium")
	f.BoolVar(&unmount, "unmount", false, "unmount the volume first")
	f.BoolVar(&wait, "wait", true, "wait until the volume is erased")
	f.BoolVar(&ignoreMissing, "ignore-missing", false, "succeed if a volume does not exist")
	return cmd
}

func (a *app) unmountAndDelete(ctx context.Context, name string, unmount, erase bool) ([]volume.Volume, error) {
	if unmount {
		// A partly deleted volume is mounted nowhere, and deleting it continues.
		if _, err := a.service.Unmount(ctx, name, ""); err != nil && !errs.Is(err, errs.NotFound) {
			return nil, err
		}
	}
	return a.service.Delete(ctx, name, erase)
}

func newVolumeExpandCommand(a *app) *cobra.Command {
	var size sizeFlag
	var output outputFlag
	cmd := &cobra.Command{
		Use: "expand NAME --size SIZE", Short: "Expand an lvm volume and its file system, also while it is mounted",
		Example: "  pmemctl volume expand db --size 20Gi",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("expanding a volume"); err != nil {
				return err
			}
			if cmd.Flags().Changed("size") && size == 0 {
				return usage(cmd, fmt.Errorf("the size must be greater than 0"))
			}
			v, err := a.service.Expand(cmd.Context(), args[0], uint64(size))
			if err != nil {
				return err
			}
			if asked := uint64(size); v.Size >= asked+volume.ExtentSize*uint64(max(v.Stripes, 1)) {
				a.note("volume %s has %s, more than the requested %s; a volume never shrinks", v.Name, pmem.FormatSize(v.Size), pmem.FormatSize(asked))
			}
			return show(a, output, "volumes", []volumeRow{a.rowOf(v)}, volumeColumns())
		},
	}
	cmd.Flags().VarP(&size, "size", "s", "new minimum size, for example 20Gi")
	_ = cmd.MarkFlagRequired("size")
	addOutputFlag(cmd, &output)
	return cmd
}

func newVolumeCloneCommand(a *app) *cobra.Command {
	var place placeFlags
	var size sizeFlag
	var output outputFlag
	cmd := &cobra.Command{
		Use: "clone SOURCE NAME", Short: "Copy a volume that is not in use to a new one",
		Long: `Copies a volume that is not in use to a new one, which may be larger and of the
other type. Use this to get a larger direct volume.`,
		Example: `  pmemctl volume clone db db-copy
  pmemctl volume clone cache larger-cache --size 20Gi
  pmemctl volume clone cache db --type lvm`,
		Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("copying a volume"); err != nil {
				return err
			}
			if cmd.Flags().Changed("size") && size == 0 {
				return usage(cmd, fmt.Errorf("the size must be greater than 0"))
			}
			if err := volume.ValidateNotInline(args[1]); err != nil {
				return err
			}
			v, err := a.service.Clone(cmd.Context(), args[0], volume.Spec{
				Name: args[1], Size: uint64(size), Type: volume.Type(place.volumeType), Region: place.region, VG: place.vg, Stripe: place.stripe, SpaceWait: volume.AsLongAsItTakes,
			})
			if err != nil {
				return err
			}
			return show(a, output, "volumes", []volumeRow{a.rowOf(v)}, volumeColumns())
		},
	}
	place.add(a, cmd, "`type`: lvm or direct (default: that of the source)")
	cmd.Flags().VarP(&size, "size", "s", "minimum size of the copy (default: that of the source)")
	addOutputFlag(cmd, &output)
	return cmd
}

func newVolumeMountCommand(a *app) *cobra.Command {
	var m volume.MountSpec
	cmd := &cobra.Command{
		Use: "mount NAME PATH", Short: "Mount a volume with DAX",
		Long: `Mounts a volume on a directory, which is created if missing, and asks the kernel
whether DAX is in effect; if it is not, the volume is unmounted again. An all-zero
volume is formatted first; a volume with content other than a file system is left
unchanged.`,
		Example: `  pmemctl volume mount db /mnt/db
  pmemctl volume mount db /mnt/db --options noexec,nosuid
  pmemctl volume mount db /mnt/db --read-only --no-dax`,
		Args: cobra.ExactArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return a.completeVolumes(1)(cmd, args, toComplete)
			}
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("mounting a volume"); err != nil {
				return err
			}
			m.Name, m.Path = args[0], args[1]
			v, err := a.service.Mount(cmd.Context(), m)
			if err != nil {
				return err
			}
			a.say("%s is mounted on %s", v.Device, m.Path)
			a.noteHealth(v)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.FS, "fs", "", "required file `system`, or the one to create on an empty volume (default ext4)")
	f.StringSliceVar(&m.Options, "options", nil, "mount `options`, separated by commas")
	f.BoolVar(&m.NoDAX, "no-dax", false, "mount without DAX")
	f.BoolVar(&m.ReadOnly, "read-only", false, "mount read-only")
	_ = cmd.RegisterFlagCompletionFunc("fs", cobra.FixedCompletions([]string{mount.Ext4, mount.XFS}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newVolumeUnmountCommand(a *app) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "unmount NAME", Aliases: []string{"umount"}, Short: "Unmount a volume", Example: "  pmemctl volume unmount db\n  pmemctl volume unmount db --path /mnt/db", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("unmounting a volume"); err != nil {
				return err
			}
			paths, err := a.service.Unmount(cmd.Context(), args[0], path)
			if err != nil {
				return err
			}
			for _, p := range paths {
				a.say("%s unmounted", p)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "path", "", "unmount only from this `directory` (default: from everywhere)")
	return cmd
}

func newCapacityCommand(a *app) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use: "capacity", Short: "Show the space for new volumes, in usable bytes", Example: "  pmemctl capacity\n  pmemctl capacity -o wide", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("reading capacities"); err != nil {
				return err
			}
			all, err := a.service.Capacity(cmd.Context())
			if err != nil {
				return err
			}
			return show(a, output, "capacities", all, []column[volume.Capacity]{
				{title: "TYPE", cell: func(c volume.Capacity) string { return string(c.Type) }},
				{title: "IN", cell: func(c volume.Capacity) string { return c.Region + c.VG }},
				{title: "TOTAL", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Total) }},
				{title: "FREE", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Free) }},
				{title: "ERASING", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Erasing) }},
				{title: "LARGEST VOLUME", cell: func(c volume.Capacity) string { return pmem.FormatSize(c.Largest) }},
				{title: "LARGEST IN BYTES", wide: true, cell: func(c volume.Capacity) string { return fmt.Sprint(c.Largest) }},
				{title: "NOTE", cell: func(c volume.Capacity) string { return dash(c.Reason) }},
			})
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}
