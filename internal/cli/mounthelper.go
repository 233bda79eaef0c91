package cli

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Options of the mount helper that are not passed to the kernel.
const (
	noDAXOption = "nodax"
	fsOption    = "fs="
)

// fstabEntry returns the line of /etc/fstab for a mount; parseHelperArgs is the reverse.
func fstabEntry(m volume.MountSpec) (hostconf.FstabEntry, error) {
	path, err := filepath.Abs(m.Path)
	e := hostconf.FstabEntry{Volume: m.Name, Path: path}
	if m.ReadOnly {
		e.Options = append(e.Options, "ro")
	}
	if m.NoDAX {
		e.Options = append(e.Options, noDAXOption)
	}
	if m.FS != "" {
		e.Options = append(e.Options, fsOption+m.FS)
	}
	e.Options = append(e.Options, m.Options...)
	return e, err
}

// Exit codes of mount(8).
const (
	mountUsage  = 1
	mountFailed = 32
)

// mountHelper is what mount(8) runs for the type pmemctl: mount.pmemctl VOLUME PATH [-sfnv] [-o OPTIONS].
func (a *app) mountHelper(ctx context.Context, args []string) int {
	m, fake, err := parseHelperArgs(args)
	if err != nil {
		printError(a, err)
		return mountUsage
	}
	if fake {
		return exitOK
	}
	if err := a.mountAtBoot(ctx, m); err != nil {
		printError(a, err)
		return mountFailed
	}
	return exitOK
}

func parseHelperArgs(args []string) (m volume.MountSpec, fake bool, err error) {
	bad := func(reason string) error {
		return errs.New(errs.Invalid, hostconf.MountHelper, reason, "it is for mount(8); by hand: pmemctl volume mount NAME PATH")
	}
	var names []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-o" && i+1 < len(args):
			i++
			if err := addHelperOptions(&m, args[i]); err != nil {
				return m, false, err
			}
		case (arg == "-t" || arg == "-N") && i+1 < len(args):
			i++
		case strings.HasPrefix(arg, "-") && strings.Trim(arg, "-sfnvrw") == "":
			fake = fake || strings.Contains(arg, "f")
			m.ReadOnly = m.ReadOnly || strings.Contains(arg, "r")
		case strings.HasPrefix(arg, "-"):
			return m, false, bad("does not know the option " + arg)
		default:
			names = append(names, arg)
		}
	}
	if len(names) != 2 {
		return m, false, bad("requires a volume and a directory")
	}
	m.Name, m.Path, m.Formatted = hostconf.FstabVolume(names[0]), names[1], true
	return m, fake, nil
}

func addHelperOptions(m *volume.MountSpec, list string) error {
	for option := range strings.SplitSeq(list, ",") {
		fs, isFS := strings.CutPrefix(option, fsOption)
		switch {
		case option == "remount":
			return errs.New(errs.Unsupported, hostconf.MountHelper, "cannot change the options of a mount", "with the file system's type, mount(8) can: mount -t ext4 -o remount,… PATH")
		case option == "ro":
			m.ReadOnly = true
		case option == noDAXOption:
			m.NoDAX = true
		case isFS:
			m.FS = fs
		// Those of mount(8) itself.
		case slices.Contains([]string{"", "rw", "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "owner", "group"}, option),
			strings.HasPrefix(option, "x-"), strings.HasPrefix(option, "comment="):
		default:
			m.Options = append(m.Options, option)
		}
	}
	return nil
}

// bootWait is how long the helper waits for a volume, and bootPoll how often it looks: at boot, the
// kernel may still be finding the PMEM.
var bootWait, bootPoll = 30 * time.Second, 500 * time.Millisecond

func (a *app) mountAtBoot(ctx context.Context, m volume.MountSpec) error {
	for begun := time.Now(); ; {
		v, err := a.service.Mount(ctx, m)
		if err == nil {
			a.noteHealth(v)
		}
		// Of a volume in several regions, some may come later.
		mayCome := errs.Is(err, errs.NotFound) || errs.Is(err, errs.Damaged) || errs.Is(err, errs.Unsupported)
		if !mayCome || time.Since(begun) > bootWait {
			return err
		}
		select {
		case <-time.After(bootPoll):
		case <-ctx.Done():
			return err
		}
	}
}
