// Command csiclient makes the calls that Kubernetes makes of a CSI server, for the
// demo and the benchmark. It is used in the lab only.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "csiclient:", err)
		return 1
	}
	return 0
}

func newCommand() *cobra.Command {
	root := &cobra.Command{Use: "csiclient", Short: "Make the calls that Kubernetes makes of a CSI server", SilenceErrors: true, SilenceUsage: true}
	root.CompletionOptions.DisableDefaultCmd = true
	endpoint := root.PersistentFlags().String("endpoint", os.Getenv("CSI_ENDPOINT"), "unix `socket` of the server, such as unix:///csi/csi.sock (default $CSI_ENDPOINT)")

	// add adds a command that is one action; what that returns is printed.
	add := func(use, short string, args int, action func(context.Context, *client, []string) (string, error)) *cobra.Command {
		cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args)}
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			c, err := connect(cmd.Context(), *endpoint)
			if err != nil {
				return err
			}
			defer c.conn.Close()
			answer, err := action(cmd.Context(), c, args)
			if err == nil && answer != "" {
				fmt.Println(answer)
			}
			return err
		}
		root.AddCommand(cmd)
		return cmd
	}

	var create wanted
	create.flags(add("create NAME", "CreateVolume", 1, func(ctx context.Context, c *client, args []string) (string, error) {
		vol, err := c.create(ctx, args[0], create)
		return describe(vol), err
	}))
	add("stage NAME STAGING", "NodeStageVolume", 2, func(ctx context.Context, c *client, args []string) (string, error) {
		return args[0] + ": staged on " + args[1], c.Stage(ctx, args[0], args[1], capability(""))
	})
	add("publish NAME STAGING TARGET", "NodePublishVolume", 3, func(ctx context.Context, c *client, args []string) (string, error) {
		return args[0] + ": published on " + args[2], c.Publish(ctx, args[0], args[1], args[2], capability(""))
	})
	add("expand NAME SIZE PATH", "ControllerExpandVolume, then NodeExpandVolume", 3, func(ctx context.Context, c *client, args []string) (string, error) {
		size, err := pmem.ParseSize(args[1])
		if err != nil {
			return "", err
		}
		got, err := c.expand(ctx, args[0], int64(size), args[2])
		return args[0] + ": " + pmem.FormatSize(uint64(got)) + " on " + args[2], err
	})
	add("unpublish NAME TARGET", "NodeUnpublishVolume", 2, func(ctx context.Context, c *client, args []string) (string, error) {
		return args[0] + ": no longer published on " + args[1], c.Unpublish(ctx, args[0], args[1])
	})
	add("unstage NAME STAGING", "NodeUnstageVolume", 2, func(ctx context.Context, c *client, args []string) (string, error) {
		return args[0] + ": no longer staged on " + args[1], c.Unstage(ctx, args[0], args[1])
	})
	add("delete NAME", "DeleteVolume", 1, func(ctx context.Context, c *client, args []string) (string, error) {
		return args[0] + ": deleted", c.Delete(ctx, args[0])
	})
	var capacity wanted
	capacity.typeFlag(add("capacity", "GetCapacity", 0, func(ctx context.Context, c *client, _ []string) (string, error) {
		return c.capacity(ctx, capacity)
	}))
	add("list", "ListVolumes", 0, func(ctx context.Context, c *client, _ []string) (string, error) { return c.list(ctx) })

	var l lives
	l.flags(add("lives", "Time the lives of volumes, in microseconds: all of it, and the median of each call", 0, func(ctx context.Context, c *client, _ []string) (string, error) {
		return l.run(ctx, c)
	}))
	var m many
	m.flags(add("many", "Make many raw block volumes, and time the first and the last of them, in microseconds", 0, func(ctx context.Context, c *client, _ []string) (string, error) {
		return m.run(ctx, c)
	}))
	return root
}

func (w *wanted) typeFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.kind, "type", "lvm", "lvm or direct")
}

// rawFlags are those of a raw block volume.
func (w *wanted) rawFlags(cmd *cobra.Command) {
	w.typeFlag(cmd)
	w.fs, w.size = rawBlock, 64*pmem.MiB
	f := cmd.Flags()
	f.Var(&w.size, "size", "`size` of a volume")
	f.StringVar(&w.region, "region", "", "only in this `region`")
	f.BoolVar(&w.noErase, "no-erase", false, "do not zero the volume when it is deleted")
}

func (w *wanted) flags(cmd *cobra.Command) {
	w.rawFlags(cmd)
	cmd.Flags().StringVar(&w.fs, "fs", "ext4", "file system: ext4, xfs, or "+rawBlock+" for a raw block volume")
}

// sizeFlag is bytes, written such as 64Mi.
type sizeFlag uint64

func (f *sizeFlag) String() string { return pmem.FormatSize(uint64(*f)) }
func (f *sizeFlag) Type() string   { return "size" }
func (f *sizeFlag) Set(s string) error {
	n, err := pmem.ParseSize(s)
	*f = sizeFlag(n)
	return err
}
