package csi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Metrics counts the calls.
type Metrics struct {
	registry *prometheus.Registry
	duration *prometheus.HistogramVec
}

// Host is what the metrics read of the host when they are asked for.
type Host interface {
	LookAtEverything(context.Context) (volume.View, error)
}

// NewMetrics makes the metrics of a server.
func NewMetrics(host Host) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pmemctl_csi_operation_duration_seconds", Help: "Duration of CSI calls, by method and gRPC code.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "code"}),
	}
	m.registry.MustRegister(m.duration, &collector{host: host}, collectors.NewGoCollector())
	return m
}

func (m *Metrics) called(method string, code codes.Code, took time.Duration) {
	if m != nil {
		m.duration.WithLabelValues(method, code.String()).Observe(took.Seconds())
	}
}

// ServeMetrics answers /metrics, /healthz with what Probe says, and /livez over HTTP
// until the context ends.
func (s *Server) ServeMetrics(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.Metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 1}))
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/livez", s.livez)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// collector reads the host for each scrape: devices are the only record.
type collector struct{ host Host }

var (
	regionLabels  = []string{"region"}
	regionSize    = prometheus.NewDesc("pmemctl_region_size_bytes", "Size of a region.", regionLabels, nil)
	regionFree    = prometheus.NewDesc("pmemctl_region_available_bytes", "What is free of a region, raw.", regionLabels, nil)
	regionExtent  = prometheus.NewDesc("pmemctl_region_max_available_extent_bytes", "The largest free extent of a region, raw.", regionLabels, nil)
	regionFrag    = prometheus.NewDesc("pmemctl_region_fragmentation_ratio", "1 less the share that the largest free extent has of what is free; 0 is one piece.", regionLabels, nil)
	regionBad     = prometheus.NewDesc("pmemctl_region_badblocks", "Media errors of a region, in blocks of 512 bytes.", regionLabels, nil)
	vgSize        = prometheus.NewDesc("pmemctl_vg_size_bytes", "Size of a volume group of pmemctl's.", []string{"vg"}, nil)
	vgFree        = prometheus.NewDesc("pmemctl_vg_free_bytes", "What is free of a volume group.", []string{"vg"}, nil)
	vgMissing     = prometheus.NewDesc("pmemctl_vg_missing_devices", "1 when a device of a volume group is missing.", []string{"vg"}, nil)
	volumeCount   = prometheus.NewDesc("pmemctl_volumes", "Volumes by type and state; deleting is the queue of what is to be erased.", []string{"type", "state"}, nil)
	volumeBytes   = prometheus.NewDesc("pmemctl_volume_bytes", "Bytes of volumes by type and state.", []string{"type", "state"}, nil)
	dimmHealth    = prometheus.NewDesc("pmemctl_dimm_health", "1 for the state of health that the firmware of a DIMM tells.", []string{"dimm", "state"}, nil)
	readErrorDesc = prometheus.NewDesc("pmemctl_read_error", "1 when the host could not be read.", nil, nil)
)

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// scrapeTimeout is less than what Prometheus waits.
const scrapeTimeout = 8 * time.Second

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	view, err := c.host.LookAtEverything(ctx)
	gauge(readErrorDesc, number(err != nil))
	if err != nil {
		return
	}
	for _, r := range view.PMEM.Regions {
		gauge(regionSize, float64(r.Size), r.Dev)
		gauge(regionFree, float64(r.AvailableSize), r.Dev)
		gauge(regionExtent, float64(r.MaxAvailableExtent), r.Dev)
		gauge(regionFrag, fragmentation(r), r.Dev)
		gauge(regionBad, float64(r.BadblockCount), r.Dev)
	}
	for _, vg := range view.OwnVGs() {
		gauge(vgSize, float64(vg.Size), vg.Name)
		gauge(vgFree, float64(vg.Free), vg.Name)
		gauge(vgMissing, number(vg.PartialPVMissing), vg.Name)
	}
	type key struct{ kind, state string }
	count, bytes := map[key]int{}, map[key]uint64{}
	for _, t := range []volume.Type{volume.TypeLVM, volume.TypeDirect} {
		for _, state := range []volume.State{volume.Ready, volume.Creating, volume.Deleting, volume.Damaged} {
			count[key{string(t), string(state)}] = 0
		}
	}
	for _, vol := range view.Volumes() {
		k := key{string(vol.Type), string(vol.State)}
		count[k]++
		bytes[k] += vol.Size
	}
	for k, n := range count {
		gauge(volumeCount, float64(n), k.kind, k.state)
		gauge(volumeBytes, float64(bytes[k]), k.kind, k.state)
	}
	for _, d := range view.PMEM.DIMMs {
		if d.Health != nil {
			gauge(dimmHealth, 1, d.Dev, d.Health.State)
		}
	}
}

func fragmentation(r pmem.Region) float64 {
	if r.AvailableSize == 0 {
		return 0
	}
	return 1 - float64(r.MaxAvailableExtent)/float64(r.AvailableSize)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
