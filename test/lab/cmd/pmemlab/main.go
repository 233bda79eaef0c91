// Command pmemlab boots a lab guest from the command line: for a shell in it,
// or to run one command, such as a compiled test binary.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pmemctl/pmemctl/test/lab"
)

const usage = `usage: pmemlab [flags] [command [argument...]]

Boots a QEMU guest with emulated NVDIMMs and runs the command in it, as root,
at the same path as on this machine. Without a command: an interactive shell.
Nothing the guest does reaches this machine.

`

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pmemlab:", err)
	}
	os.Exit(code)
}

func run() (int, error) {
	cfg := lab.Config{}
	var env envFlag
	dimms := flag.String("dimms", "equal", "`which` NVDIMMs: equal (two of 4 GiB), large (two of 20 GiB), huge (one of 768 GiB), all (also a misaligned and a label-less one), unlabelled (memory of the command line, one without a label area, virtio-pmem), memmap (2 GiB of memory of the command line), cxl (two CXL devices of 1 GiB), cxl2 (each below its own host bridge), none")
	flag.StringVar(&cfg.Dir, "dir", "", "`directory` for the DIMM files, to keep them for another boot (default: a new one, removed at the end)")
	flag.BoolVar(&cfg.NoUdev, "no-udev", false, "no udevd, as in a container")
	flag.BoolVar(&cfg.NFITTest, "nfit-test", false, "add the kernel's emulated bus with interleaved regions")
	flag.BoolVar(&cfg.NoPMEMModules, "no-pmem-modules", false, "load no PMEM driver")
	flag.IntVar(&cfg.MemoryMiB, "memory", 0, "guest memory in `MiB` (default 3072)")
	flag.StringVar(&cfg.Path, "path", "", "`directory` to put in front of PATH")
	flag.Var(&env, "env", "`NAME=VALUE` for the command; may be repeated")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	switch *dimms {
	case "equal":
		cfg.DIMMs = lab.TwoEqualDIMMs()
	case "large":
		cfg.DIMMs, cfg.TrimAfter = lab.LabelledDIMMs(2, 20<<30), 7<<30
	case "huge":
		cfg.DIMMs, cfg.TrimAfter = lab.LabelledDIMMs(1, 768<<30), 1<<30
	case "all":
		cfg.DIMMs = lab.AllKindsOfDIMMs()
	case "unlabelled":
		cfg.DIMMs, cfg.MemmapMiB = lab.Unlabelled(1<<30), 1024
	case "memmap":
		cfg.MemmapMiB = 2048
	case "cxl":
		cfg.CXL = lab.TwoCXLDevices()
	case "cxl2":
		cfg.CXL = lab.TwoCXLBridges()
	case "none":
	default:
		return 2, fmt.Errorf("-dimms %q: want equal, large, huge, all, unlabelled, memmap, cxl, cxl2 or none", *dimms)
	}
	if cfg.Dir == "" {
		dir, err := lab.TempDir()
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		cfg.Dir = dir
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if flag.NArg() == 0 {
		cfg.Shell = []string{"/bin/bash", "--login"}
		_, err := lab.Boot(ctx, cfg)
		return exitCode(err)
	}
	m, err := lab.Boot(ctx, cfg)
	if err != nil {
		return 1, err
	}
	defer m.Kill()
	dir, err := os.Getwd()
	if err != nil {
		return 1, err
	}
	err = m.Run(ctx, lab.Command{Args: flag.Args(), Env: env, Dir: dir, Stdout: os.Stdout, Stderr: os.Stderr})
	return exitCode(err)
}

func exitCode(err error) (int, error) {
	var exit *lab.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return exit.Code, nil
	}
	return 1, err
}

type envFlag []string

func (e *envFlag) String() string     { return strings.Join(*e, " ") }
func (e *envFlag) Set(v string) error { *e = append(*e, v); return nil }
