package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/bench"
	"github.com/pmemctl/pmemctl/internal/csi"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/run"
	"github.com/pmemctl/pmemctl/internal/volume"
)

const (
	// defaultEraseRate leaves most of the bandwidth to the users of volumes.
	defaultEraseRate = "20%"
	// eraserLock is held by the process that erases in the background.
	eraserLock = "eraser"
)

// eraser is what the commands use of the volume service to erase deleted volumes.
type eraser interface {
	EraseAll(ctx context.Context, rate volume.EraseRate, failedToo bool) (erased int, err error)
	Unerased() []string
	GiveUp(ctx context.Context, uuid string) error
	Abandoned(context.Context) ([]volume.Volume, error)
	RemoveAbandoned(context.Context) error
	DeleteAsCreated(ctx context.Context, name string) error
}

type gcOptions struct {
	rate          string
	giveUp        string // UUID
	background    bool
	dryRun, force bool
	kubeletDir    string
	output        outputFlag
}

func newGCCommand(a *app, runF runFunc[gcOptions]) *cobra.Command {
	var o gcOptions
	cmd := &cobra.Command{
		Use: "gc", Short: "Remove what is abandoned: deleted, unfinished and inline volumes", Args: cobra.NoArgs,
		Long: `Removes what nobody uses any more, and frees its space:

- deleted volumes that are not yet erased: deleted with "volume delete --wait=false", or
  interrupted. Their data is zeroed first
- unfinished volumes that a killed command left. A command in progress keeps its volume
- inline volumes of Kubernetes without a pod: kubelet has no directory for them. Asks first
- volumes that a killed "pmemctl bench" left

--dry-run lists them; nothing else is touched. serve-csi erases, and deletes inline
volumes without a pod, by itself. The next creation removes unfinished volumes.

A volume that cannot be removed does not block the others; the exit code is then 11.
With --give-up its space is freed without erasing it.`,
		Example: `  pmemctl gc --dry-run
  pmemctl gc
  pmemctl gc --erase-rate 20%
  pmemctl gc --give-up 5b1f1c2e-6a53-4e0c-9c5a-2f9d1d1f8a11`,
		PreRunE: a.asRoot("erasing volumes"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.background && !cmd.Flags().Changed("erase-rate") {
				o.rate = defaultEraseRate
			}
			return runF.or(a.eraseDeleted)(cmd.Context(), &o)
		},
	}
	cmd.Flags().StringVar(&o.rate, "erase-rate", "max", "`rate` of erasing: a share of the time such as 20%, bytes per second such as 500Mi, or max")
	cmd.Flags().StringVar(&o.giveUp, "give-up", "", "only free the space of the deleted volume with this `UUID`, and leave its data on the medium")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "list what would be removed, and change nothing")
	cmd.Flags().BoolVar(&o.force, "force", false, "do not ask about inline volumes")
	cmd.Flags().StringVar(&o.kubeletDir, "kubelet-dir", defaultKubeletDir, "kubelet's root `directory` (its --root-dir), which shows the pods")
	addOutputFlag(cmd, &o.output)
	cmd.Flags().BoolVar(&o.background, "background", false, "exit at once if another process is erasing")
	_ = cmd.Flags().MarkHidden("background")
	return cmd
}

func (a *app) eraseDeleted(ctx context.Context, o *gcOptions) error {
	if o.giveUp != "" {
		return a.service.GiveUp(ctx, o.giveUp)
	}
	rate, err := volume.ParseEraseRate(o.rate)
	if err != nil {
		return err
	}
	if o.background {
		return a.eraseUntilDone(ctx, rate)
	}
	if o.dryRun {
		found, err := a.garbage(ctx, o.kubeletDir)
		if err != nil {
			return err
		}
		return a.showGarbage(o.output, found)
	}
	failed := errors.Join(a.removeBenchLeftovers(ctx), a.service.RemoveAbandoned(ctx), a.removeInline(ctx, o))
	erased, err := a.service.EraseAll(ctx, rate, true)
	if err = errors.Join(failed, err); err == nil {
		a.say("volumes erased: %d", erased)
	}
	return err
}

// garbage is something that gc removes.
type garbage struct {
	Kind   string `json:"kind"` // deleted, unfinished, inline or bench
	Volume string `json:"volume"`
	Type   string `json:"type"`
	Size   uint64 `json:"size"` // bytes
	UUID   string `json:"uuid"`
}

// garbage lists what gc would remove.
func (a *app) garbage(ctx context.Context, kubeletDir string) ([]garbage, error) {
	found := []garbage{}
	add := func(kind string, vol volume.Volume) {
		found = append(found, garbage{Kind: kind, Volume: vol.Name, Type: string(vol.Type), Size: vol.Size, UUID: vol.UUID})
	}
	v, err := a.service.Look(ctx)
	if err != nil {
		return nil, err
	}
	volumes := v.Volumes()
	leftovers := bench.Leftovers(a.newBench().Records)
	for _, vol := range volumes {
		switch {
		case vol.State == volume.Deleting:
			add("deleted", vol)
		case slices.Contains(leftovers, vol.Name):
			add("bench", vol)
		}
	}
	unfinished, err := a.service.Abandoned(ctx)
	if err != nil {
		return nil, err
	}
	for _, vol := range unfinished {
		if !slices.Contains(leftovers, vol.Name) {
			add("unfinished", vol)
		}
	}
	for _, vol := range a.inlineWithoutPod(volumes, kubeletDir) {
		add("inline", vol)
	}
	return found, nil
}

// inlineWithoutPod returns the finished inline volumes that no pod of this node has.
func (a *app) inlineWithoutPod(volumes []volume.Volume, kubeletDir string) []volume.Volume {
	inline := slices.DeleteFunc(slices.Clone(volumes), func(vol volume.Volume) bool { return !volume.IsInline(vol.Name) || vol.State != volume.Ready })
	if len(inline) == 0 {
		return nil
	}
	wanted, err := csi.PodVolumes(kubeletDir)
	if err != nil {
		a.note("inline volumes are kept: %v", err)
		return nil
	}
	return slices.DeleteFunc(inline, func(vol volume.Volume) bool { return wanted[vol.Name] })
}

// removeInline deletes inline volumes without a pod, if the user agrees.
func (a *app) removeInline(ctx context.Context, o *gcOptions) (err error) {
	v, err := a.service.Look(ctx)
	if err != nil {
		return err
	}
	for _, vol := range a.inlineWithoutPod(v.Volumes(), o.kubeletDir) {
		if !o.force && !a.interactive {
			a.note("volume %s: is an inline volume without a pod, and is kept; to delete it: pmemctl gc --force", vol.Name)
			continue
		}
		switch failed := a.confirm(o.force, "Inline volume "+vol.Name+" belongs to no pod of this node. It and its data will be lost."); {
		case errs.Is(failed, errs.Aborted):
			continue
		case failed != nil:
			return failed
		}
		if failed := a.service.DeleteAsCreated(ctx, vol.Name); !errs.Is(failed, errs.NotFound) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

func (a *app) showGarbage(o outputFlag, found []garbage) error {
	return show(a, o, "abandoned", found, []column[garbage]{
		{title: "KIND", cell: func(g garbage) string { return g.Kind }},
		{title: "VOLUME", cell: func(g garbage) string { return g.Volume }},
		{title: "TYPE", cell: func(g garbage) string { return g.Type }},
		{title: "SIZE", cell: func(g garbage) string { return pmem.FormatSize(g.Size) }},
		{title: "UUID", wide: true, cell: func(g garbage) string { return g.UUID }},
	})
}

// eraseUntilDone erases as long as there is something to erase, unless another process does. A
// volume deleted just before it ends found its lock held, so it looks again after that.
func (a *app) eraseUntilDone(ctx context.Context, rate volume.EraseRate) error {
	for {
		lock, err := a.host.Locks.Try(eraserLock)
		if lock == nil || err != nil {
			return err
		}
		erased, err := a.service.EraseAll(ctx, rate, false)
		lock.Release()
		if erased == 0 || ctx.Err() != nil || len(a.service.Unerased()) == 0 {
			return err
		}
	}
}

// thenErase makes a command start erasing in the background when it has finished, if something is
// to be erased.
func (a *app) thenErase(cmd *cobra.Command) *cobra.Command {
	do := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := do(cmd, args)
		a.eraseInBackground()
		return err
	}
	return cmd
}

// eraseInBackground starts a gc that outlives this process, unless a gc or serve-csi is already
// running. If that fails, the next change starts one.
func (a *app) eraseInBackground() {
	if len(a.service.Unerased()) == 0 {
		return
	}
	lock, err := a.host.Locks.Try(eraserLock)
	if lock == nil || err != nil {
		return
	}
	lock.Release()
	a.detach("gc", "--background")
}

// detach starts a pmemctl that outlives this one. Errors are ignored.
func detach(args ...string) {
	if self, err := os.Executable(); err == nil {
		_ = run.Detached(self, append([]string{os.Args[0]}, args...)...)
	}
}

// eraserPoll is how often serve-csi tries to get the lock of a gc in the background, which may erase
// for hours. Nothing waits for that.
const eraserPoll = 5 * time.Second

// holdEraser keeps others from erasing in the background while serve-csi is running.
func (a *app) holdEraser(ctx context.Context) {
	for ctx.Err() == nil {
		if lock, _ := a.host.Locks.Try(eraserLock); lock != nil {
			defer lock.Release()
			<-ctx.Done()
		}
		select {
		case <-ctx.Done():
		case <-time.After(eraserPoll):
		}
	}
}
