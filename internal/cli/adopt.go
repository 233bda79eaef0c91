package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// adopter is what the command uses of the volume service.
type adopter interface {
	PlanAdopt(ctx context.Context, requests ...volume.AdoptRequest) ([]volume.Adoption, error)
	Adopt(context.Context, []volume.Adoption) ([]volume.Adoption, error)
}

type adoptOptions struct {
	objects            []string // none means all that can be adopted
	dryRun, force, raw bool
	output             outputFlag
}

func newAdoptCommand(a *app, runF runFunc[adoptOptions]) *cobra.Command {
	var o adoptOptions
	cmd := &cobra.Command{
		Use:   "adopt [VG|NAMESPACE[=NAME]...]",
		Short: "Take over volume groups and namespaces that other programs created",
		Long: `Makes volumes of what another driver or a person created: the logical volumes of a volume
group on PMEM, and fsdax namespaces with ext4 or XFS. Data stays where it is; only names
and tags change. Without arguments, this is all that can be adopted, and what cannot is
listed with the reason. A namespace is named by its device, UUID or name.

Nothing may be in use: stop the old driver, unmount the volumes, and make sure that
neither is started again. Without --force, each group and namespace is asked about. If
the command is interrupted, run it again: it continues.

The volumes keep their names, cut to 54 characters; NAMESPACE=NAME gives a namespace
another one. A volume without a file system is adopted only if its namespace or group is
named: it becomes a raw block volume. With --raw, one with a file system does too, as a
PersistentVolume with volumeMode: Block requires. For PersistentVolumes, see "pmemctl
adopt-pv".`,
		Example: `  pmemctl adopt --dry-run
  pmemctl adopt ndbus0region0fsdax
  pmemctl adopt namespace1.0=db --force`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeAdoptable, PreRunE: a.asRoot("taking over volumes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.objects = args
			return runF.or(a.adopt)(cmd.Context(), &o)
		},
	}
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would be adopted, and change nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask")
	cmd.Flags().BoolVar(&o.raw, "raw", false, "make raw block volumes of the named group or namespaces, also if they have a file system")
	addOutputFlag(cmd, &o.output)
	return cmd
}

func (a *app) adopt(ctx context.Context, o *adoptOptions) error {
	var requests []volume.AdoptRequest
	for _, arg := range o.objects {
		object, name, given := strings.Cut(arg, "=")
		if object == "" || given && name == "" {
			return errs.New(errs.Invalid, fmt.Sprintf("%q", arg), "is not of the form VG, NAMESPACE or NAMESPACE=NAME", "pmemctl adopt --help")
		}
		requests = append(requests, volume.AdoptRequest{Object: object, Name: name, Raw: o.raw})
	}
	if o.raw && len(requests) == 0 {
		return errs.New(errs.Invalid, "--raw", "requires a group or a namespace", "name what is to be raw: pmemctl adopt NAME --raw")
	}
	plan, err := a.service.PlanAdopt(ctx, requests...)
	if err != nil {
		return err
	}
	if len(plan) == 0 && len(requests) > 0 {
		a.note("nothing to do: %s: already pmemctl's", strings.Join(o.objects, ", "))
		return a.showAdoptions(o.output, plan)
	}
	if !slices.ContainsFunc(plan, volume.Adoption.Fits) && len(requests) == 0 {
		a.note("nothing to do: there is nothing that can be adopted")
		if len(plan) == 0 && !o.output.structured() {
			return nil
		}
		return a.showAdoptions(o.output, plan)
	}
	if o.dryRun {
		return a.showAdoptions(o.output, plan)
	}
	var chosen []volume.Adoption
	for _, p := range plan {
		switch {
		case !p.Fits() && len(requests) == 0: // shown, with the reason
			continue
		case p.Fits():
			err := a.confirm(o.force, questionAbout(p))
			if errs.Is(err, errs.Aborted) && a.interactive {
				continue
			}
			if err != nil {
				return err
			}
		}
		chosen = append(chosen, p)
	}
	if len(chosen) == 0 {
		return errs.New(errs.Aborted, "", "nothing was changed", "")
	}
	done, err := a.service.Adopt(ctx, chosen)
	if err != nil && len(done) == 0 {
		return err
	}
	for i, p := range plan {
		for _, d := range done {
			if d.Object == p.Object && d.Kind == p.Kind {
				plan[i] = d
			}
		}
	}
	return errors.Join(a.showAdoptions(o.output, plan), err)
}

func questionAbout(p volume.Adoption) string {
	what := fmt.Sprintf("%s %s", p.Kind, p.Object)
	if p.MadeBy != "" {
		what += ", named as " + p.MadeBy + " does,"
	}
	return fmt.Sprintf("The %s will be pmemctl's, with its volumes %s. No other program may manage it any more.", what, orNone(volumesOf(p)))
}

func volumesOf(p volume.Adoption) (names []string) {
	for _, vol := range p.Volumes {
		names = append(names, vol.Name)
	}
	return names
}

// orNone joins names for a sentence.
func orNone(names []string) string {
	if len(names) == 0 {
		return "(none)"
	}
	return strings.Join(names, ", ")
}

func (a *app) showAdoptions(o outputFlag, plan []volume.Adoption) error {
	return show(a, o, "adoptions", plan, []column[volume.Adoption]{
		{title: "OBJECT", cell: func(p volume.Adoption) string { return p.Object }},
		{title: "KIND", cell: func(p volume.Adoption) string { return p.Kind }},
		{title: "MADE BY", cell: func(p volume.Adoption) string { return dash(p.MadeBy) }},
		{title: "REGIONS", cell: func(p volume.Adoption) string { return strings.Join(p.Regions, ",") }},
		{title: "SIZE", cell: func(p volume.Adoption) string { return pmem.FormatSize(p.Size) }},
		{title: "VOLUMES", cell: func(p volume.Adoption) string { return dash(strings.Join(volumesOf(p), ",")) }},
		{title: "ADOPTED", cell: adoptedCell},
		{title: "REASON", cell: func(p volume.Adoption) string { return dash(p.Reason) }},
		{title: "NEXT", wide: true, cell: func(p volume.Adoption) string { return dash(p.Next) }},
	})
}

func adoptedCell(p volume.Adoption) string {
	switch {
	case p.Done:
		return "yes"
	case p.Fits():
		return "possible"
	}
	return "no"
}
