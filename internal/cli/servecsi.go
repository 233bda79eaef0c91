package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pmemctl/pmemctl/internal/csi"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/hostconf"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// driverName is the syntax that the CSI spec has for names of plugins.
var driverName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// csiFlags are the flags of serve-csi.
type csiFlags struct {
	endpoint, controllerEndpoint          string
	nodeID, driver, topologyKey           string
	kind                                  string
	verbosity                             int
	init, span, topologyRegions           bool
	nodeExpansion                         bool
	percent                               int
	registrationDir, registrationEndpoint string
	metricsAddress, metricsTokenFile      string
	hostDir                               string
	kubeletDir, inlineMaxSize             string
	eraseRate                             string
	inline                                bool
}

func newServeCSICommand(a *app) *cobra.Command {
	var f csiFlags
	cmd := &cobra.Command{
		Use: "serve-csi", Short: "Serve the Container Storage Interface on this node", Args: cobra.NoArgs,
		Long: `Serves the Container Storage Interface (CSI) on a unix socket, as the entry point
of a DaemonSet: identity, controller and node service of this one node.

It makes no network connection and needs no Kubernetes API. SIGTERM ends it when
the calls at work are done.

A flag that is not given is taken from the environment, when that has it: --init from
PMEMCTL_INIT, --metrics-address from PMEMCTL_METRICS_ADDRESS, and so on.`,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return flagsFromEnvironment(cmd.LocalFlags()) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.serveCSI(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.endpoint, "endpoint", os.Getenv("CSI_ENDPOINT"), "unix `socket` to serve on, such as unix:///csi/csi.sock (default $CSI_ENDPOINT)")
	fl.StringVar(&f.controllerEndpoint, "controller-endpoint", "", "a second `socket`, which alone has the controller service then: out of the reach of a provisioner for all nodes")
	fl.StringVar(&f.nodeID, "nodeid", os.Getenv("KUBE_NODE_NAME"), "`name` of this node (default $KUBE_NODE_NAME)")
	fl.StringVar(&f.driver, "driver", "csi.pmemctl.io", "`name` of the driver")
	fl.StringVar(&f.topologyKey, "topology-key", "", "`key` of the topology, whose value is the node's name (default DRIVER/node)")
	fl.BoolVar(&f.topologyRegions, "topology-regions", false, "also tell, as topology, which regions and NUMA nodes have PMEM: DRIVER/region0=true, DRIVER/numa0=true")
	fl.StringVar(&f.kind, "type", "all", "what this node serves: lvm, direct or all")
	fl.BoolVar(&f.init, "init", false, "prepare the PMEM at the start, as vg init does; nothing is ever prepared without it")
	fl.IntVar(&f.percent, "percent", 0, "with --init: `percent` of each region for lvm volumes (default 100)")
	fl.BoolVar(&f.span, "span", false, "with --init: one volume group over all regions")
	fl.BoolVar(&f.nodeExpansion, "node-expansion", false, "let only the node service expand volumes: one external-resizer speaks for all nodes, and does not know whose a volume is")
	fl.StringVar(&f.registrationDir, "registration-dir", "", "kubelet's `folder` of plugins to register in, such as /registration; no registrar sidecar is needed then")
	fl.StringVar(&f.registrationEndpoint, "registration-endpoint", "", "the `socket` as kubelet sees it (default /var/lib/kubelet/plugins/DRIVER/csi.sock)")
	fl.StringVar(&f.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's `directory` (its --root-dir): volumes are mounted nowhere else, and its pods' inline volumes are kept")
	fl.BoolVar(&f.inline, "inline", false, "allow inline (ephemeral) volumes, which take PMEM for whoever may make a pod")
	fl.StringVar(&f.inlineMaxSize, "inline-max-size", "1Gi", "largest `size` of an inline volume")
	fl.StringVar(&f.eraseRate, "erase-rate", defaultEraseRate, "how much of the memory's bandwidth the erasing of deleted volumes takes: a `share` of the time, bytes per second such as 500Mi, or max; it takes all while a volume waits for the space, or little is free")
	fl.StringVar(&f.metricsAddress, "metrics-address", "", "`address` to serve Prometheus metrics, /healthz and /livez on, such as :9090 (default: none)")
	fl.StringVar(&f.metricsTokenFile, "metrics-token-file", "", "`file` with the token that whoever reads /metrics must have (Authorization: Bearer TOKEN); it is read each time")
	fl.StringVar(&f.hostDir, "host-dir", "", "`directory` with the host's /etc, to keep its udev and LVM off what tenants write, as host setup does (default: only look)")
	fl.IntVar(&f.verbosity, "v", 2, "`level` of the log: 0 errors, 2 calls, 4 also those that change nothing, 5 also requests and answers")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"lvm", "direct", "all"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// flagsFromEnvironment is for who cannot change the arguments of a container, only its
// image or its environment.
func flagsFromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "PMEMCTL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if !set || value == "" || f.Changed || f.Name == "help" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil && failed == nil {
			failed = errs.Wrap(errs.Invalid, "environment variable "+name, fmt.Sprintf("%q is no value for --%s", value, f.Name), "unset it, or see: pmemctl serve-csi --help", err)
		}
	})
	return failed
}

func (f csiFlags) config() (csi.Config, error) {
	c := csi.Config{Driver: f.driver, Version: Version, NodeID: f.nodeID, TopologyKey: f.topologyKey, NodeExpansion: f.nodeExpansion, ControllerEndpoint: f.controllerEndpoint, RegionTopology: f.topologyRegions, Type: volume.TypeLVM}
	switch {
	case f.endpoint == "":
		return c, errs.Invalidf("--endpoint", "pmemctl serve-csi --endpoint unix:///csi/csi.sock --nodeid NODE", "is missing")
	case f.nodeID == "":
		return c, errs.Invalidf("--nodeid", "give the node's name, or set KUBE_NODE_NAME", "is missing")
	case !driverName.MatchString(f.driver) || len(f.driver) > 63:
		return c, errs.Invalidf("--driver", "use a domain name of at most 63 characters, such as csi.pmemctl.io", "%q is no name of a driver", f.driver)
	case len(f.nodeID) > 256:
		return c, errs.Invalidf("--nodeid", "use the node's name", "is %d bytes long; the maximum is 256", len(f.nodeID))
	}
	maximum, err := pmem.ParseSize(f.inlineMaxSize)
	if err != nil || maximum == 0 {
		return c, errs.Invalidf("--inline-max-size", "give a size such as 1Gi", "%q is not a size", f.inlineMaxSize)
	}
	if !filepath.IsAbs(f.kubeletDir) || filepath.Clean(f.kubeletDir) == "/" {
		return c, errs.Invalidf("--kubelet-dir", "give the --root-dir of kubelet, such as /var/lib/kubelet", "%q is not the path of a directory of kubelet's", f.kubeletDir)
	}
	c.KubeletDir, c.Inline, c.InlineMaxSize = filepath.Clean(f.kubeletDir), f.inline, maximum
	if c.EraseRate, err = volume.ParseEraseRate(f.eraseRate); err != nil {
		return c, err
	}
	if c.TopologyKey == "" {
		c.TopologyKey = f.driver + "/node"
	}
	if f.kind == "all" {
		return c, nil
	}
	kind, err := volume.ParseType(f.kind)
	if err != nil {
		return c, errs.Invalidf("--type", "use lvm, direct or all", "%q is not a volume type", f.kind)
	}
	c.Type, c.Only = kind, true
	return c, nil
}

func (a *app) serveCSI(ctx context.Context, f csiFlags) error {
	config, err := f.config()
	if err != nil {
		return err
	}
	if err := a.needRoot("serve-csi"); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: logLevel(f.verbosity)}))
	a.service.Note = once(func(err error) { log.Error("beside what was asked for", "error", err) })
	if f.controllerEndpoint != "" && filepath.Dir(f.controllerEndpoint) == filepath.Dir(f.endpoint) {
		log.Warn("the sockets of kubelet and of the sidecars are in one directory: a sidecar that is taken over can mount volumes", "next", "give --controller-endpoint a directory of its own")
	}
	a.service.TargetRoot = config.KubeletDir
	server := &csi.Server{Config: config, Volumes: a.service, Log: log, Metrics: csi.NewMetrics(a.service)}
	a.service.Locks.Waiting = func(name, holder string) { log.Info("waiting for a lock", "lock", name, "holder", holder) }
	server.Resume = a.service.Resume
	if f.init && !(config.Only && config.Type == volume.TypeDirect) {
		server.Prepare = func(ctx context.Context) error { return a.prepare(ctx, f, log) }
	} else if f.init {
		log.Info("nothing to prepare: direct volumes need no volume group")
	}
	parts := []func(context.Context) error{
		func(ctx context.Context) error { a.holdEraser(ctx); return nil },
		func(ctx context.Context) error { return server.Run(ctx, f.endpoint) },
		server.Background,
		func(ctx context.Context) error { a.tellDamage(ctx, log); <-ctx.Done(); return nil },
		func(ctx context.Context) error {
			hostconf.Serve(ctx, f.hostDir, log)
			<-ctx.Done()
			return nil
		},
	}
	if f.controllerEndpoint != "" {
		parts = append(parts, server.RunController)
	}
	if f.registrationDir != "" {
		endpoint := f.registrationEndpoint
		if endpoint == "" {
			endpoint = "/var/lib/kubelet/plugins/" + f.driver + "/csi.sock"
		}
		parts = append(parts, func(ctx context.Context) error { return server.Register(ctx, f.registrationDir, endpoint) })
	}
	if f.metricsAddress != "" {
		parts = append(parts, func(ctx context.Context) error {
			// Pods need their volumes also when nobody can look at metrics.
			if err := server.ServeMetrics(ctx, csi.MetricsConfig{Address: f.metricsAddress, TokenFile: f.metricsTokenFile}); err != nil {
				log.Error("no metrics", "error", err.Error())
			}
			<-ctx.Done()
			return nil
		})
	}
	return together(ctx, parts)
}

// together runs parts until one of them ends, or the context; then it ends all.
func together(ctx context.Context, parts []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failed := make([]error, len(parts))
	for i, part := range parts {
		wg.Go(func() {
			defer cancel()
			failed[i] = part(ctx)
		})
	}
	wg.Wait()
	return errors.Join(failed...)
}

// prepare gives the regions to lvm volumes.
func (a *app) prepare(ctx context.Context, f csiFlags, log *slog.Logger) error {
	steps, err := a.service.InitVGs(ctx, volume.VGInitSpec{Percent: f.percent, Span: f.span})
	for _, step := range steps { // also where the others are damaged
		log.Info("prepared", "region", step.Region, "vg", step.VG, "raw_had", step.Has, "raw_added", step.Add, "note", step.Reason)
	}
	return err
}

// tellDamage logs what is damaged when the server starts, and remembers the regions that
// have volumes.
func (a *app) tellDamage(ctx context.Context, log *slog.Logger) {
	if err := a.service.RememberRegions(ctx); err != nil {
		log.Error("regions cannot be read", "error", err.Error())
	}
	v, err := a.service.Look(ctx)
	if err != nil {
		log.Error("whether anything is damaged could not be looked for", "error", err.Error(), "next", errs.NextStep(err))
		return
	}
	for _, d := range a.service.Damage(v) {
		log.Error("damaged", "error", d.Error().Error(), "next", d.Next)
	}
	parts, err := a.service.CheckVGs(ctx, "")
	if err != nil {
		log.Error("volume groups could not be checked", "error", err.Error())
	}
	for _, p := range parts {
		if p.Damaged() {
			log.Error("damaged", "vg", p.VG, "device", p.Device, "part", p.Part, "reason", p.Reason, "next", p.Next)
		}
	}
}

// logLevel is the level for a verbosity of klog.
func logLevel(v int) slog.Level {
	switch {
	case v >= 5:
		return csi.LevelRequests
	case v >= 4:
		return slog.LevelDebug
	case v >= 1:
		return slog.LevelInfo
	}
	return slog.LevelError
}
