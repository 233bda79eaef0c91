package cli

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

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
}

type gcOptions struct {
	rate       string
	giveUp     string // UUID
	background bool
}

func newGCCommand(a *app, runF runFunc[gcOptions]) *cobra.Command {
	var o gcOptions
	cmd := &cobra.Command{
		Use: "gc", Short: "Erase deleted volumes, and free their space", Args: cobra.NoArgs,
		Long: `Zeroes the data of deleted volumes that are not yet erased, and frees their space:
volumes deleted with "volume delete --wait=false", and volumes whose erasing was
interrupted. serve-csi does this by itself. Volumes that a killed "pmemctl bench" left
are removed.

A volume that cannot be erased does not block the others; the exit code is then 11.
With --give-up its space is freed without erasing it.`,
		Example: `  pmemctl gc
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
	leftovers := a.removeBenchLeftovers(ctx)
	erased, err := a.service.EraseAll(ctx, rate, true)
	if err = errors.Join(err, leftovers); err == nil {
		a.say("volumes erased: %d", erased)
	}
	return err
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
