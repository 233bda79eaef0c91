package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/persistentvolume"
)

type adoptPVOptions struct {
	file      string // "" or - is standard input
	rewriting persistentvolume.Rewriting
}

func newAdoptPVCommand(a *app, runF runFunc[adoptPVOptions]) *cobra.Command {
	var o adoptPVOptions
	cmd := &cobra.Command{
		Use:   "adopt-pv [FILE]",
		Short: "Rewrite the PersistentVolumes of another driver for pmemctl",
		Long: `Reads PersistentVolumes as "kubectl get pv -o json" prints them, from FILE or standard
input, and prints those of the other driver as pmemctl would have them: the same names,
claims and nodes, and the reclaim policy Retain; the annotation
pmemctl.io/old-reclaim-policy has the old one. It changes nothing in the cluster.

Run "pmemctl adopt" on the nodes first. The guide of taking over describes how the
objects are replaced without deleting a claim or a volume.`,
		Example: `  pmemctl adopt-pv old.json
  pmemctl adopt-pv --driver localplugin.csi.alibabacloud.com old.json   # overlay ack`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.file = args[0]
			}
			o.rewriting.TopologyKey = cmp.Or(o.rewriting.TopologyKey, o.rewriting.Driver+"/node")
			if o.rewriting.Driver != persistentvolume.Alibaba && slices.Contains(o.rewriting.From, o.rewriting.Driver) {
				return errs.New(errs.Invalid, "--from", "names pmemctl's own driver "+o.rewriting.Driver, "name the driver that created the volumes")
			}
			return runF.or(a.adoptPV)(cmd.Context(), &o)
		},
	}
	fl := cmd.Flags()
	fl.StringSliceVar(&o.rewriting.From, "from", []string{persistentvolume.PMEMCSI, persistentvolume.Alibaba}, "`drivers` whose PersistentVolumes are rewritten")
	fl.StringVar(&o.rewriting.Driver, "driver", defaultDriver, "`name` of pmemctl's driver")
	fl.StringVar(&o.rewriting.TopologyKey, "topology-key", "", "topology `key` of pmemctl's driver (default DRIVER/node)")
	fl.StringToStringVar(&o.rewriting.Names, "rename", nil, "`HANDLE=NAME`: the name that adopt gave the volume of this volumeHandle")
	return cmd
}

func (a *app) adoptPV(_ context.Context, o *adoptPVOptions) error {
	in := io.Reader(a.stdin)
	if o.file != "" && o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return errs.Wrap(errs.NotFound, o.file, "cannot be opened", "give what this prints: kubectl get pv -o json", err)
		}
		defer f.Close()
		in = f
	}
	list, kept, err := o.rewriting.Rewrite(in)
	if err != nil {
		return err
	}
	for _, k := range kept {
		a.note("PersistentVolume %s is not rewritten: %s", k.Name, k.Reason)
	}
	if len(list.Items) == 0 {
		return errs.New(errs.NotFound, "PersistentVolumes", "none of "+strings.Join(o.rewriting.From, ", ")+" can be rewritten", "see what drivers there are: kubectl get pv -o custom-columns=NAME:.metadata.name,DRIVER:.spec.csi.driver")
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err == nil {
		_, err = fmt.Fprintln(a.stdout, string(text))
	}
	return err
}
