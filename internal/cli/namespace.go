package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// namespaces is what the commands use of the volume service for namespaces that are not volumes.
type namespaces interface {
	GetNamespace(key string) (pmem.Namespace, error)
	CreateNamespace(context.Context, volume.NamespaceRequest) (pmem.Namespace, error)
	DestroyNamespace(ctx context.Context, key string) error
}

func newNamespaceCommand(a *app) *cobra.Command {
	return group("namespace", "Manage namespaces that are not volumes", "pmemctl namespace list",
		newNamespaceListCommand(a, nil), newNamespaceShowCommand(a), newNamespaceCreateCommand(a, nil), newNamespaceDestroyCommand(a, nil))
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

type namespaceListOptions struct {
	region string
	output outputFlag
}

func newNamespaceListCommand(a *app, runF runFunc[namespaceListOptions]) *cobra.Command {
	var o namespaceListOptions
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the namespaces", Example: "  pmemctl namespace list\n  pmemctl namespace list --region region0 -o wide", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runF.or(a.listNamespaces)(cmd.Context(), &o) },
	}
	cmd.Flags().StringVarP(&o.region, "region", "r", "", "list only those in this `region`")
	_ = cmd.RegisterFlagCompletionFunc("region", a.completeRegions(0))
	addOutputFlag(cmd, &o.output)
	return fromArchive(a, cmd)
}

func (a *app) listNamespaces(_ context.Context, o *namespaceListOptions) error {
	s, err := a.ndctl.Snapshot(ndctl.Select{Namespaces: true, Badblocks: true})
	if err != nil {
		return err
	}
	list := s.Namespaces
	if o.region != "" {
		list = s.InRegion(o.region)
	}
	return show(a, o.output, "namespaces", list, namespaceColumns())
}

func newNamespaceShowCommand(a *app) *cobra.Command {
	return hostListing(a, &cobra.Command{
		Use: "show NAMESPACE|UUID", Short: "Show a namespace", Example: "  pmemctl namespace show namespace0.0", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeNamespaces(1),
	}, func(_ context.Context, o outputFlag, args []string) error {
		n, err := a.service.GetNamespace(args[0])
		if err != nil {
			return err
		}
		return show(a, o.detailed(), "namespaces", []pmem.Namespace{n}, namespaceColumns())
	})
}

type namespaceCreateOptions struct {
	request volume.NamespaceRequest
	output  outputFlag
}

func newNamespaceCreateCommand(a *app, runF runFunc[namespaceCreateOptions]) *cobra.Command {
	var o namespaceCreateOptions
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a namespace that is not a volume",
		Long: `Creates a namespace, as "ndctl create-namespace" does, with one difference: --size is
the usable size of the namespace, and --raw-size is what it takes of the region.`,
		Example: `  pmemctl namespace create --region region0 --mode devdax --size 16Gi
  pmemctl namespace create --region region0 --mode fsdax --raw-size 16Gi --name mine`,
		Args: cobra.NoArgs, PreRunE: a.asRoot("creating a namespace"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := positive(cmd, "size", "raw-size"); err != nil {
				return err
			}
			return runF.or(a.createNamespace)(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.request.Region, "region", "r", "", "`region` to create it in (default: the first with enough room)")
	f.StringVarP((*string)(&o.request.Mode), "mode", "m", string(pmem.ModeFSDAX), "`mode`: fsdax, devdax, sector or raw")
	f.VarP((*sizeFlag)(&o.request.Size), "size", "s", "minimum usable size, for example 10Gi (default: the largest free extent)")
	f.Var((*sizeFlag)(&o.request.RawSize), "raw-size", "size that it takes of the region")
	f.StringVarP((*string)(&o.request.Map), "map", "M", string(pmem.MapDev), "`location` of the page map: dev (in the namespace) or mem (in DRAM)")
	f.VarP((*sizeFlag)(&o.request.Align), "align", "a", "alignment of fsdax and devdax: 4Ki, 2Mi or 1Gi (default 2Mi)")
	f.UintVarP(&o.request.SectorSize, "sector-size", "l", 4096, "sector size in `bytes`, in sector mode")
	f.StringVarP(&o.request.Name, "name", "n", "", "alternative `name` (alt_name), free text")
	f.StringVarP(&o.request.UUID, "uuid", "u", "", "`UUID` of the namespace (default: generated)")
	f.BoolVar(&o.request.Force, "force", false, "change the single namespace of a region without labels to the mode; its data is lost")
	_ = cmd.RegisterFlagCompletionFunc("region", a.completeRegions(0))
	completeValues(cmd, "mode", "fsdax", "devdax", "sector", "raw")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) createNamespace(ctx context.Context, o *namespaceCreateOptions) error {
	n, err := a.service.CreateNamespace(ctx, o.request)
	if err != nil {
		return err
	}
	return show(a, o.output, "namespaces", []pmem.Namespace{n}, namespaceColumns())
}

type namespaceDestroyOptions struct {
	keys  []string
	force bool
}

func newNamespaceDestroyCommand(a *app, runF runFunc[namespaceDestroyOptions]) *cobra.Command {
	var o namespaceDestroyOptions
	cmd := &cobra.Command{
		Use: "destroy NAMESPACE|UUID...", Short: "Destroy namespaces that are not in use, and their data",
		Example: "  pmemctl namespace destroy namespace0.1",
		Args:    cobra.MinimumNArgs(1), ValidArgsFunction: a.completeNamespaces(0), PreRunE: a.asRoot("destroying a namespace"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.keys = args
			return runF.or(a.destroyNamespaces)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask")
	return cmd
}

func (a *app) destroyNamespaces(ctx context.Context, o *namespaceDestroyOptions) error {
	for _, key := range o.keys {
		n, err := a.service.GetNamespace(key)
		if err != nil {
			return err
		}
		if err := a.confirm(o.force, fmt.Sprintf("%s (%s, %s) and its data will be lost.", n.Dev, n.Mode, pmem.FormatSize(n.RawSize))); err != nil {
			return err
		}
		if n.UUID != "" {
			key = n.UUID // the one confirmed, even if the name now belongs to another
		}
		if err := a.service.DestroyNamespace(ctx, key); err != nil {
			return err
		}
		a.say("%s destroyed", n.Dev)
	}
	return nil
}
