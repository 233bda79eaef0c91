package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func newNamespaceCommand(a *app) *cobra.Command {
	return group("namespace", "Manage namespaces that are not volumes", "pmemctl namespace list",
		newNamespaceListCommand(a), newNamespaceShowCommand(a), newNamespaceCreateCommand(a), newNamespaceDestroyCommand(a))
}

func namespaceColumns() []column[pmem.Namespace] {
	return []column[pmem.Namespace]{
		{title: "NAMESPACE", cell: func(n pmem.Namespace) string { return n.Dev }},
		{title: "REGION", cell: func(n pmem.Namespace) string { return n.Region }},
		{title: "MODE", cell: func(n pmem.Namespace) string { return string(n.Mode) }},
		{title: "SIZE", cell: func(n pmem.Namespace) string { return pmem.FormatSize(n.Size) }},
		{title: "RAW", cell: func(n pmem.Namespace) string { return pmem.FormatSize(n.RawSize) }},
		{title: "DEVICE", cell: func(n pmem.Namespace) string { return dash(n.Blockdev + n.Chardev) }},
		{title: "STATE", cell: func(n pmem.Namespace) string { return n.State }},
		{title: "OWNER", cell: namespaceOwner},
		{title: "MAP", wide: true, cell: func(n pmem.Namespace) string { return dash(string(n.Map)) }},
		{title: "ALIGN", wide: true, cell: func(n pmem.Namespace) string { return pmem.FormatSize(n.Align) }},
		{title: "SECTOR", wide: true, cell: func(n pmem.Namespace) string { return fmt.Sprint(n.SectorSize) }},
		{title: "BADBLOCKS", wide: true, cell: func(n pmem.Namespace) string { return fmt.Sprint(n.BadblockCount) }},
		{title: "NAME", wide: true, cell: func(n pmem.Namespace) string { return dash(n.Name) }},
		{title: "UUID", wide: true, cell: func(n pmem.Namespace) string { return dash(n.UUID) }},
	}
}

func namespaceOwner(n pmem.Namespace) string {
	if owner, ours := volume.Owned(n.Name); ours {
		return owner
	}
	return "foreign"
}

func newNamespaceListCommand(a *app) *cobra.Command {
	var output outputFlag
	var region string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the namespaces", Example: "  pmemctl namespace list\n  pmemctl namespace list --region region0 -o wide", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.ndctl.Snapshot(ndctl.Select{Namespaces: true, Badblocks: true})
			if err != nil {
				return err
			}
			list := s.Namespaces
			if region != "" {
				list = s.InRegion(region)
			}
			return show(a, output, "namespaces", list, namespaceColumns())
		},
	}
	cmd.Flags().StringVarP(&region, "region", "r", "", "list only those in this `region`")
	_ = cmd.RegisterFlagCompletionFunc("region", a.completeRegions(0))
	addOutputFlag(cmd, &output)
	return cmd
}

func newNamespaceShowCommand(a *app) *cobra.Command {
	var output outputFlag
	cmd := &cobra.Command{
		Use: "show NAMESPACE|UUID", Short: "Show a namespace", Example: "  pmemctl namespace show namespace0.0", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNamespaces(1),
		RunE: func(_ *cobra.Command, args []string) error {
			n, err := a.service.GetNamespace(args[0])
			if err != nil {
				return err
			}
			if output == outputTable {
				output = outputWide
			}
			return show(a, output, "namespaces", []pmem.Namespace{n}, namespaceColumns())
		},
	}
	addOutputFlag(cmd, &output)
	return cmd
}

func newNamespaceCreateCommand(a *app) *cobra.Command {
	var output outputFlag
	var q volume.NamespaceRequest
	var mode, mapping string
	var size, rawSize, align sizeFlag
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a namespace that is not a volume",
		Long: `Creates a namespace, as "ndctl create-namespace" does, with one difference: --size is
the usable size of the namespace, and --raw-size is what it takes of the region.`,
		Example: `  pmemctl namespace create --region region0 --mode devdax --size 16Gi
  pmemctl namespace create --region region0 --mode fsdax --raw-size 16Gi --name mine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.needRoot("creating a namespace"); err != nil {
				return err
			}
			if cmd.Flags().Changed("size") && size == 0 || cmd.Flags().Changed("raw-size") && rawSize == 0 {
				return usage(cmd, fmt.Errorf("the size must be greater than 0"))
			}
			q.Mode, q.Map = pmem.Mode(mode), pmem.Map(mapping)
			q.Size, q.RawSize, q.Align = uint64(size), uint64(rawSize), uint64(align)
			n, err := a.service.CreateNamespace(cmd.Context(), q)
			if err != nil {
				return err
			}
			return show(a, output, "namespaces", []pmem.Namespace{n}, namespaceColumns())
		},
	}
	f := cmd.Flags()
	f.StringVarP(&q.Region, "region", "r", "", "`region` to create it in (default: the first with enough room)")
	f.StringVarP(&mode, "mode", "m", string(pmem.ModeFSDAX), "`mode`: fsdax, devdax, sector or raw")
	f.VarP(&size, "size", "s", "minimum usable size, for example 10Gi (default: the largest free extent)")
	f.Var(&rawSize, "raw-size", "size that it takes of the region")
	f.StringVarP(&mapping, "map", "M", string(pmem.MapDev), "`location` of the page map: dev (in the namespace) or mem (in DRAM)")
	f.VarP(&align, "align", "a", "alignment of fsdax and devdax: 4Ki, 2Mi or 1Gi (default 2Mi)")
	f.UintVarP(&q.SectorSize, "sector-size", "l", 4096, "sector size in `bytes`, in sector mode")
	f.StringVarP(&q.Name, "name", "n", "", "alternative `name` (alt_name), free text")
	f.StringVarP(&q.UUID, "uuid", "u", "", "`UUID` of the namespace (default: generated)")
	f.BoolVar(&q.Force, "force", false, "change the single namespace of a region without labels to the mode; its data is lost")
	_ = cmd.RegisterFlagCompletionFunc("region", a.completeRegions(0))
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"fsdax", "devdax", "sector", "raw"}, cobra.ShellCompDirectiveNoFileComp))
	addOutputFlag(cmd, &output)
	return cmd
}

func newNamespaceDestroyCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "destroy NAMESPACE|UUID...", Short: "Destroy namespaces that are not in use, and their data",
		Example: "  pmemctl namespace destroy namespace0.1",
		Args:    cobra.MinimumNArgs(1), ValidArgsFunction: a.completeNamespaces(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.needRoot("destroying a namespace"); err != nil {
				return err
			}
			for _, key := range args {
				n, err := a.service.GetNamespace(key)
				if err != nil {
					return err
				}
				if err := a.confirm(force, fmt.Sprintf("%s (%s, %s) and its data will be lost.", n.Dev, n.Mode, pmem.FormatSize(n.RawSize))); err != nil {
					return err
				}
				if n.UUID != "" {
					key = n.UUID // the one confirmed, even if the name now belongs to another
				}
				if err := a.service.DestroyNamespace(cmd.Context(), key); err != nil {
					return err
				}
				a.say("%s destroyed", n.Dev)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	return cmd
}
