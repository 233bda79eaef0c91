package doctor

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
)

// checkHost adds what keeps volumes from being created. Other checks say that there is no PMEM, or
// no program.
func (c Checker) checkHost(ctx context.Context, r *report) {
	err := c.CheckHost(ctx)
	if errs.Is(err, errs.NotFound) || r.has("programs", "lvm") {
		return
	}
	if err != nil {
		r.failed("creation", "", err)
		return
	}
	r.ok("creation", "", "nothing on this host prevents it")
}

func (c Checker) checkMapper(r *report) {
	stranded, err := c.Host.Stranded()
	if err != nil {
		r.failed("device mapper", "", err)
		return
	}
	for _, s := range stranded {
		next := "stop what uses " + s.Node + ", then: dmsetup remove " + s.Name
		if s.LV != "" {
			next = "if it is a volume, unmount it and mount it again: pmemctl volume unmount " + s.LV + "; or stop what uses " + s.Node + ", then: dmsetup remove " + s.Name
		}
		r.add("device mapper", s.Name, Fault, "the device below it was removed: all I/O fails", next)
	}
	if len(stranded) == 0 {
		r.ok("device mapper", "", "no device is on one that was removed")
	}
}

// lockedLong is how long no operation holds the host's lock.
const lockedLong = 10 * time.Minute

func (c Checker) checkLocks(r *report, now time.Time) {
	held, err := c.Host.HeldLocks()
	if err != nil {
		r.failed("locks", "", err)
		return
	}
	before := len(r.findings)
	for _, h := range held {
		if h.Is("eraser") {
			continue // serve-csi holds it as long as it runs
		}
		state, next := Note, ""
		// Copying, zeroing and erasing lock only a volume.
		if h.Is("host") && now.Sub(h.Since) > lockedLong {
			state, next = Warning, "see what the process does; if it does nothing, end it: the lock ends with it, and the same command continues"
		}
		r.add("locks", h.Name, state, fmt.Sprintf("held for %s by %s", now.Sub(h.Since).Round(time.Second), h.Holder), next)
	}
	if len(r.findings) == before {
		r.ok("locks", "", "none is held")
	}
}

func (c Checker) checkRunDir(r *report) {
	var fs unix.Statfs_t
	switch err := unix.Statfs(c.RunDir, &fs); {
	case os.IsNotExist(err):
		r.ok("state", c.RunDir, "does not exist yet")
	case err != nil:
		r.failed("state", c.RunDir, &os.PathError{Op: "statfs", Path: c.RunDir, Err: err})
	default:
		checkStateFS(r, c.RunDir, fs)
	}
}

func checkStateFS(r *report, dir string, fs unix.Statfs_t) {
	switch {
	case fs.Type != unix.TMPFS_MAGIC:
		r.add("state", dir, Warning, "is not on a tmpfs: records of an earlier boot would be taken for current ones", "mount the host's /run into the container")
	case fs.Flags&unix.ST_RDONLY != 0:
		r.add("state", dir, Fault, "is mounted read-only, so nothing can be locked", "mount it writable")
	default:
		r.ok("state", dir, "tmpfs")
	}
}

func (c Checker) checkHostConf(ctx context.Context, r *report) {
	if c.HostConf == nil {
		return
	}
	findings, err := c.HostConf(ctx)
	if err != nil {
		r.add("host", "", Warning, err.Error(), errs.NextStep(err))
		return
	}
	states := map[hostconf.State]State{hostconf.OK: OK, hostconf.Note: Note, hostconf.Problem: Warning}
	for _, f := range findings {
		r.add("host", f.Check, states[f.State], f.Detail, f.Next)
	}
}
