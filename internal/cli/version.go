package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/run"
)

// Version is set by the release build.
var Version = "0.1.0-dev"

type versions struct {
	Pmemctl   string `json:"pmemctl"`
	Go        string `json:"go"`
	Libndctl  string `json:"libndctl"`
	Libdaxctl string `json:"libdaxctl"`
	LVM       string `json:"lvm"`
	Kernel    string `json:"kernel"`
}

func newVersionCommand(a *app) *cobra.Command {
	return listing(&cobra.Command{
		Use: "version", Short: "Show the versions of pmemctl, its libraries, LVM and the kernel", Example: "  pmemctl version\n  pmemctl version -o json", Args: cobra.NoArgs,
	}, func(ctx context.Context, o outputFlag, _ []string) error {
		v := versions{Pmemctl: Version, Go: runtime.Version(), LVM: "not installed", Kernel: kernelVersion()}
		v.Libndctl, v.Libdaxctl = ndctl.LibraryVersions()
		if info, ok := debug.ReadBuildInfo(); ok {
			for _, s := range info.Settings {
				if s.Key == "vcs.revision" && len(s.Value) >= 12 {
					v.Pmemctl += " (" + s.Value[:12] + ")"
				}
			}
		}
		if out, err := run.Command(ctx, "lvm", "version"); err == nil {
			v.LVM = lvmVersion(string(out))
		}
		if o.structured() {
			return showObject(a.stdout, o, v)
		}
		for _, l := range [][2]string{{"pmemctl", v.Pmemctl}, {"go", v.Go}, {"libndctl", v.Libndctl}, {"libdaxctl", v.Libdaxctl}, {"lvm", v.LVM}, {"kernel", v.Kernel}} {
			fmt.Fprintf(a.stdout, "%-10s %s\n", l[0], l[1])
		}
		return nil
	})
}

func lvmVersion(out string) string {
	for _, line := range strings.Split(out, "\n") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "LVM version:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func kernelVersion() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
