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
	"github.com/pmemctl/pmemctl/internal/metrics"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// driverName is the syntax of plugin names in the CSI spec.
var driverName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

type serveCSIOptions struct {
	endpoint, controllerEndpoint          string
	nodeID, driver, topologyKey           string
	kind                                  string
	verbosity                             int
	init, span, topologyRegions           bool
	initWhole                             []string
	nodeExpansion                         bool
	percent                               int
	registrationDir, registrationEndpoint string
	metricsAddress, metricsTokenFile      string
	hostDir                               string
	kubeletDir, inlineMaxSize             string
	eraseRate                             string
	inline                                bool
}

const (
	defaultDriver     = "csi.pmemctl.io"
	defaultKubeletDir = "/var/lib/kubelet"
)

func newServeCSICommand(a *app, runF runFunc[serveCSIOptions]) *cobra.Command {
	var o serveCSIOptions
	cmd := &cobra.Command{
		Use: "serve-csi", Short: "Serve the Container Storage Interface on this node", Args: cobra.NoArgs,
		Long: `Serves the Container Storage Interface (CSI) on a Unix socket, as the entry point of a
DaemonSet: the identity, controller and node services of this node.

It makes no network connections and does not use the Kubernetes API. On SIGTERM it
finishes the calls in progress and exits.

A flag that is not given is read from the environment: --init from PMEMCTL_INIT,
--metrics-address from PMEMCTL_METRICS_ADDRESS, and so on.`,
		Example: `  pmemctl serve-csi --endpoint unix:///csi/csi.sock --nodeid node1
  pmemctl serve-csi --endpoint unix:///csi/csi.sock --nodeid node1 --init --percent 50`,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return flagsFromEnvironment(cmd.LocalFlags()) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return runF.or(a.serveCSI)(cmd.Context(), &o) },
	}
	fl := cmd.Flags()
	fl.StringVar(&o.endpoint, "endpoint", os.Getenv("CSI_ENDPOINT"), "Unix `socket` to serve on, for example unix:///csi/csi.sock (default $CSI_ENDPOINT)")
	fl.StringVar(&o.controllerEndpoint, "controller-endpoint", "", "serve the controller service only on this second `socket`, where a provisioner for all nodes cannot reach it")
	fl.StringVar(&o.nodeID, "nodeid", os.Getenv("KUBE_NODE_NAME"), "`name` of this node (default $KUBE_NODE_NAME)")
	fl.StringVar(&o.driver, "driver", defaultDriver, "`name` of the driver")
	fl.StringVar(&o.topologyKey, "topology-key", "", "topology `key` whose value is the node's name (default DRIVER/node)")
	fl.BoolVar(&o.topologyRegions, "topology-regions", false, "add topology segments for regions and NUMA nodes with PMEM: DRIVER/region0=true, DRIVER/numa0=true")
	fl.StringVar(&o.kind, "type", "all", "`type` of volumes that this node serves: lvm, direct or all")
	fl.BoolVar(&o.init, "init", false, "prepare the PMEM at startup, as vg init does; without this flag nothing is prepared")
	fl.IntVar(&o.percent, "percent", 0, "with --init: `percentage` of each region for lvm volumes (default 100)")
	fl.BoolVar(&o.span, "span", false, "with --init: create one volume group across all regions")
	fl.StringSliceVar(&o.initWhole, "init-whole", nil, "with --init: `regions` without labels to give to volume groups entirely, if all of their bytes are zero")
	fl.BoolVar(&o.nodeExpansion, "node-expansion", false, "expand volumes only through the node service, for a single external-resizer that serves all nodes")
	fl.StringVar(&o.registrationDir, "registration-dir", "", "register in this `directory` of kubelet (plugins_registry), without a registrar sidecar; for example /registration")
	fl.StringVar(&o.registrationEndpoint, "registration-endpoint", "", "`path` of the socket as kubelet sees it (default /var/lib/kubelet/plugins/DRIVER/csi.sock)")
	fl.StringVar(&o.kubeletDir, "kubelet-dir", defaultKubeletDir, "kubelet's root `directory` (its --root-dir): volumes are mounted only below it, and the inline volumes of its pods are kept")
	fl.BoolVar(&o.inline, "inline", false, "allow inline (ephemeral) volumes: anyone who may create a pod can then use PMEM")
	fl.StringVar(&o.inlineMaxSize, "inline-max-size", "1Gi", "maximum `size` of an inline volume")
	fl.StringVar(&o.eraseRate, "erase-rate", defaultEraseRate, "`rate` of erasing deleted volumes: a share of the time, bytes per second such as 500Mi, or max; the maximum is used while a volume waits for the space or little is free")
	fl.StringVar(&o.metricsAddress, "metrics-address", "", "`address` for Prometheus metrics, /healthz and /livez, for example :9090 (default: none)")
	fl.StringVar(&o.metricsTokenFile, "metrics-token-file", "", "`file` with the token required to read /metrics (Authorization: Bearer TOKEN); it is read for each request")
	fl.StringVar(&o.hostDir, "host-dir", "", "`directory` that contains the host's /etc, for host setup at startup (default: only check the host)")
	fl.IntVar(&o.verbosity, "v", 2, "log `level`: 0 errors, 2 calls, 4 also calls that change nothing, 5 also requests and responses")
	completeValues(cmd, "type", "lvm", "direct", "all")
	return cmd
}

// flagsFromEnvironment is for deployments that can change only the image or the environment of a
// container, not its arguments.
func flagsFromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "PMEMCTL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if !set || value == "" || f.Changed || f.Name == "help" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil && failed == nil {
			failed = errs.Wrap(errs.Invalid, "environment variable "+name, fmt.Sprintf("%q is not a valid value for --%s", value, f.Name), "unset it, or see: pmemctl serve-csi --help", err)
		}
	})
	return failed
}

func (o *serveCSIOptions) config() (csi.Config, error) {
	c := csi.Config{Driver: o.driver, Version: Version, NodeID: o.nodeID, TopologyKey: o.topologyKey, NodeExpansion: o.nodeExpansion, ControllerEndpoint: o.controllerEndpoint, RegionTopology: o.topologyRegions, Type: volume.TypeLVM}
	switch {
	case o.endpoint == "":
		return c, errs.New(errs.Invalid, "--endpoint", "is missing", "pmemctl serve-csi --endpoint unix:///csi/csi.sock --nodeid NODE")
	case o.nodeID == "":
		return c, errs.New(errs.Invalid, "--nodeid", "is missing", "specify the node's name, or set KUBE_NODE_NAME")
	case !driverName.MatchString(o.driver) || len(o.driver) > 63:
		return c, errs.New(errs.Invalid, "--driver", fmt.Sprintf("%q is not a valid driver name", o.driver), "use a domain name of at most 63 characters, for example csi.pmemctl.io")
	case len(o.initWhole) > 0 && !o.init:
		return c, errs.New(errs.Invalid, "--init-whole", "requires --init", "add --init")
	case len(o.nodeID) > 256:
		return c, errs.New(errs.Invalid, "--nodeid", fmt.Sprintf("is %d bytes long; the maximum is 256", len(o.nodeID)), "use the node's name")
	}
	maximum, err := pmem.ParseSize(o.inlineMaxSize)
	if err != nil || maximum == 0 {
		return c, errs.New(errs.Invalid, "--inline-max-size", fmt.Sprintf("%q is not a size", o.inlineMaxSize), "use a size such as 1Gi")
	}
	if !filepath.IsAbs(o.kubeletDir) || filepath.Clean(o.kubeletDir) == "/" {
		return c, errs.New(errs.Invalid, "--kubelet-dir", fmt.Sprintf("%q is not an absolute path of a directory", o.kubeletDir), "use the --root-dir of kubelet, for example /var/lib/kubelet")
	}
	c.KubeletDir, c.Inline, c.InlineMaxSize = filepath.Clean(o.kubeletDir), o.inline, maximum
	if c.EraseRate, err = volume.ParseEraseRate(o.eraseRate); err != nil {
		return c, err
	}
	if c.TopologyKey == "" {
		c.TopologyKey = o.driver + "/node"
	}
	if o.kind == "all" {
		return c, nil
	}
	kind, err := volume.ParseType(o.kind)
	if err != nil {
		return c, errs.New(errs.Invalid, "--type", fmt.Sprintf("%q is not a volume type", o.kind), "use lvm, direct or all")
	}
	c.Type, c.Only = kind, true
	return c, nil
}

func (a *app) serveCSI(ctx context.Context, o *serveCSIOptions) error {
	config, err := o.config()
	if err != nil {
		return err
	}
	if err := a.needRoot("serve-csi"); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: logLevel(o.verbosity)}))
	a.host.Note = once(func(err error) { log.Error("a side task failed", "error", err) })
	if o.controllerEndpoint != "" && filepath.Dir(o.controllerEndpoint) == filepath.Dir(o.endpoint) {
		log.Warn("the sockets for kubelet and for the sidecars are in the same directory: a compromised sidecar can mount volumes", "next", "use a separate directory for --controller-endpoint")
	}
	a.host.TargetRoot = config.KubeletDir
	server := &csi.Server{Config: config, Volumes: a.host, Log: log, Metrics: csi.NewMetrics(metrics.New(a.host, a.checker(hostconf.Host{Root: o.hostDir}).CheckView))}
	a.host.Locks.Waiting = func(name, holder string) { log.Info("waiting for a lock", "lock", name, "holder", holder) }
	server.Resume = a.host.Resume
	if o.init && !(config.Only && config.Type == volume.TypeDirect) {
		server.Prepare = func(ctx context.Context) error { return a.prepare(ctx, o, log) }
	} else if o.init {
		log.Info("nothing to prepare: direct volumes do not need a volume group")
	}
	parts := []func(context.Context) error{
		func(ctx context.Context) error { a.holdEraser(ctx); return nil },
		func(ctx context.Context) error { return server.Run(ctx, o.endpoint) },
		server.Background,
		func(ctx context.Context) error { a.tellDamage(ctx, log); <-ctx.Done(); return nil },
		func(ctx context.Context) error {
			hostconf.Serve(ctx, o.hostDir, log)
			<-ctx.Done()
			return nil
		},
	}
	if o.controllerEndpoint != "" {
		parts = append(parts, server.RunController)
	}
	if o.registrationDir != "" {
		endpoint := o.registrationEndpoint
		if endpoint == "" {
			endpoint = "/var/lib/kubelet/plugins/" + o.driver + "/csi.sock"
		}
		parts = append(parts, func(ctx context.Context) error { return server.Register(ctx, o.registrationDir, endpoint) })
	}
	if o.metricsAddress != "" {
		parts = append(parts, func(ctx context.Context) error {
			// Volumes are served even if metrics cannot be.
			if err := server.ServeMetrics(ctx, csi.MetricsConfig{Address: o.metricsAddress, TokenFile: o.metricsTokenFile}); err != nil {
				log.Error("cannot serve metrics", "error", err.Error())
			}
			<-ctx.Done()
			return nil
		})
	}
	return together(ctx, parts)
}

// together runs parts until one of them or the context ends; then it stops all of them.
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

// prepare runs vg init, and then for the regions of --init-whole. If those are all regions, the
// first one has none.
func (a *app) prepare(ctx context.Context, o *serveCSIOptions, log *slog.Logger) error {
	prepared := func(spec volume.VGInitSpec) error {
		steps, err := a.service.InitVGs(ctx, spec)
		for _, step := range steps { // also if others are damaged
			log.Info("prepared", "region", step.Region, "vg", step.VG, "raw_had", step.Has, "raw_added", step.Add, "note", step.Reason)
		}
		return err
	}
	err := prepared(volume.VGInitSpec{Percent: o.percent, Span: o.span})
	if errs.Is(err, errs.Unsupported) && len(o.initWhole) > 0 {
		log.Warn("no other region is prepared", "reason", err.Error(), "next", errs.NextStep(err))
		err = nil
	}
	for _, region := range o.initWhole {
		spec := volume.VGInitSpec{Regions: []string{region}, Whole: true, Span: o.span, MayErase: map[string]string{region: volume.NothingFound}}
		failed := a.isZero(ctx, spec)
		if failed == nil {
			failed = prepared(spec)
		}
		err = errors.Join(err, failed)
	}
	return err
}

// isZero returns an error if a region without labels is not part of a volume group yet and has a
// byte that is not zero. That may take long, so the host is not locked; InitVGs looks at both ends
// of the region again.
func (a *app) isZero(ctx context.Context, spec volume.VGInitSpec) error {
	spec.OnlyZeros = true
	steps, err := a.service.PlanVGInit(ctx, spec)
	if err == nil {
		err = spec.CheckErases(steps)
	}
	return err
}

// tellDamage logs the damage found at startup, and records the regions with volumes.
func (a *app) tellDamage(ctx context.Context, log *slog.Logger) {
	if err := a.service.RememberRegions(ctx); err != nil {
		log.Error("cannot record the regions", "error", err.Error())
	}
	v, err := a.service.Look(ctx)
	if err != nil {
		log.Error("could not check for damage", "error", err.Error(), "next", errs.NextStep(err))
		return
	}
	for _, d := range a.service.Damage(v) {
		log.Error("damaged", "error", d.Error().Error(), "next", d.Next)
	}
	parts, err := a.service.CheckVGs(ctx, "")
	if err != nil {
		log.Error("could not check the volume groups", "error", err.Error())
	}
	for _, p := range parts {
		if p.Damaged() {
			log.Error("damaged", "vg", p.VG, "device", p.Device, "part", p.Part, "reason", p.Reason, "next", p.Next)
		}
	}
}

// logLevel converts a klog verbosity.
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
