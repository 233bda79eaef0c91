package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

const rootLong = `pmemctl turns the persistent memory (PMEM) of a Linux machine into volumes.

An lvm volume is a logical volume in a volume group on PMEM; it can grow while it
is mounted. A direct volume is a namespace of its own. Both are mounted with DAX:
a program that maps a file accesses the memory directly.`

const rootExample = `  pmemctl region list                  # show the regions
  pmemctl region init-labels --all     # once, on new DIMMs: destroys all data
  pmemctl vg init --percent 50         # use half of each region for lvm volumes
  pmemctl volume create db --type lvm --size 10Gi
  pmemctl volume mount db /mnt/db
  pmemctl tree                         # show everything`

// NewRootCommand returns the command tree, for documentation.
func NewRootCommand() *cobra.Command { return newRootCommand(newApp()) }

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "pmemctl",
		Short:         "Turn persistent memory into volumes",
		Long:          rootLong,
		Example:       rootExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	var timeout time.Duration
	root.PersistentFlags().DurationVar(&timeout, "timeout", 0, "give up after this `duration`, for example 30s (default: never)")
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if timeout > 0 {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			cobra.OnFinalize(cancel)
			cmd.SetContext(ctx)
		}
		if cmd.Name() == cobra.ShellCompRequestCmd {
			unquoteUsage(cmd.Root())
		}
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(usage)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newBusCommand(a), newDIMMCommand(a), newRegionCommand(a), newNamespaceCommand(a), newDAXCommand(a),
		newVGCommand(a), newVolumeCommand(a), newCapacityCommand(a), newTreeCommand(a), newBenchCommand(a, nil),
		newGCCommand(a, nil), newDecommissionCommand(a, nil), newAdoptCommand(a, nil), newAdoptPVCommand(a, nil), newHostCommand(a), newDoctorCommand(a, nil), newReportCommand(a, nil),
		newServeCSICommand(a, nil), newCompletionCommand(a), newVersionCommand(a),
	)
	checkArgs(root)
	return root
}

// checkArgs wraps errors about arguments, and makes command groups report unknown commands.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(cmd, err)
			}
			if err := cmd.ValidateRequiredFlags(); err != nil {
				return usage(cmd, err)
			}
			return nil
		}
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, fmt.Errorf("unknown command %q", args[0]))
			}
			return cmd.Help()
		}
		cmd.Args = cobra.ArbitraryArgs
	}
	for _, c := range cmd.Commands() {
		checkArgs(c)
	}
}

// unquoteUsage removes the backquotes that name the value of a flag in its help; cobra's completion
// would show them.
func unquoteUsage(cmd *cobra.Command) {
	unquote := func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") }
	cmd.PersistentFlags().VisitAll(unquote)
	cmd.Flags().VisitAll(unquote)
	for _, c := range cmd.Commands() {
		unquoteUsage(c)
	}
}

func group(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: "  " + example, Args: cobra.ArbitraryArgs}
	cmd.AddCommand(commands...)
	return cmd
}

// runFunc does the work of a command with options O. Tests pass one to the constructor of a command
// to see the parsed options; in production it is nil.
type runFunc[O any] func(context.Context, *O) error

// or returns f, or work if f is nil.
func (f runFunc[O]) or(work runFunc[O]) runFunc[O] {
	if f == nil {
		return work
	}
	return f
}

// sizeFlag is a flag with a size in bytes.
type sizeFlag uint64

func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return pmem.FormatSize(uint64(*s))
}
func (s *sizeFlag) Type() string { return "size" }
func (s *sizeFlag) Set(text string) error {
	n, err := pmem.ParseSize(text)
	*s = sizeFlag(n)
	return err
}

// sizeOrMax is a flag with a size in bytes, or max.
type sizeOrMax struct {
	size *uint64
	max  *bool
}

const maxSize = "max"

// addSizeOrMax adds the required flag --size.
func addSizeOrMax(cmd *cobra.Command, size *uint64, isMax *bool, help string) {
	cmd.Flags().VarP(sizeOrMax{size, isMax}, "size", "s", help+", for example 10Gi; max: all that is possible now")
	_ = cmd.MarkFlagRequired("size")
	completeValues(cmd, "size", maxSize)
}

func (s sizeOrMax) String() string {
	if *s.max {
		return maxSize
	}
	return (*sizeFlag)(s.size).String()
}
func (s sizeOrMax) Type() string { return "size" }
func (s sizeOrMax) Set(text string) error {
	if *s.size, *s.max = 0, text == maxSize; *s.max {
		return nil
	}
	return (*sizeFlag)(s.size).Set(text)
}

// positive returns an error if one of the flags was given a size of 0.
func positive(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return usage(cmd, fmt.Errorf("the size must be greater than 0"))
		}
	}
	return nil
}
