package cli

import (
	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// completer completes arguments with the objects on this host. After an error it completes
// nothing.
type completer = cobra.CompletionFunc

func completeFrom(most int, names func(cmd *cobra.Command) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(cmd), cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeRegions(most int) completer {
	return completeFrom(most, func(*cobra.Command) (names []string) {
		s, _ := a.ndctl.Snapshot(ndctl.Select{})
		for _, r := range s.Regions {
			names = append(names, r.Dev)
		}
		return names
	})
}

func (a *app) completeNamespaces(most int) completer {
	return completeFrom(most, func(*cobra.Command) (names []string) {
		s, _ := a.ndctl.Snapshot(ndctl.Select{Namespaces: true})
		for _, n := range s.Namespaces {
			names = append(names, n.Dev)
		}
		return names
	})
}

// completeAdoptable completes foreign volume groups, and namespaces that are not pmemctl's.
func (a *app) completeAdoptable(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	return completeFrom(0, func(cmd *cobra.Command) (names []string) {
		v, _ := a.service.Look(cmd.Context())
		for _, vg := range v.Foreign.VGs {
			names = append(names, vg.Name)
		}
		for _, n := range v.PMEM.Namespaces {
			if _, own := volume.Owned(n.Name); !own {
				names = append(names, n.Dev)
			}
		}
		return names
	})(cmd, args, prefix)
}

func (a *app) completeDAX(most int) completer {
	return completeFrom(most, func(*cobra.Command) (names []string) {
		devices, _ := a.dax.List()
		for _, d := range devices {
			names = append(names, d.Chardev)
		}
		return names
	})
}

func (a *app) completeVolumes(most int) completer {
	return completeFrom(most, func(cmd *cobra.Command) (names []string) {
		volumes, _ := a.service.List(cmd.Context())
		for _, v := range volumes {
			names = append(names, v.Name)
		}
		return names
	})
}

func (a *app) completeVGs(most int) completer {
	return completeFrom(most, func(cmd *cobra.Command) (names []string) {
		v, _ := a.service.Look(cmd.Context())
		for _, vg := range v.VGs() {
			if vg.Owner == volume.OwnerPmemctl {
				names = append(names, vg.Name)
			}
		}
		return names
	})
}

// completeValues completes the value of a flag with fixed words.
func completeValues(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Write the completion script for a shell",
		Long:  `Writes the completion script for a shell to standard output.`,
		Example: `  source <(pmemctl completion bash)
  pmemctl completion zsh > "${fpath[1]}/_pmemctl"
  pmemctl completion fish > ~/.config/fish/completions/pmemctl.fish`,
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(a.stdout, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(a.stdout)
			}
			return cmd.Root().GenFishCompletion(a.stdout, true)
		},
	}
}
