// Package metrics exports the state of the host's PMEM, volume groups and volumes for Prometheus.
package metrics

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// Host is what the metrics require of the host.
type Host interface {
	Look(context.Context) (volume.View, error)
	// LookAtEverything also queries the firmware of the DIMMs.
	LookAtEverything(context.Context) (volume.View, error)
	Damage(volume.View) []volume.Damage
	DeletedIn(volume.View) []volume.Volume
}

// New returns a collector of the state of a host. check runs the checks of doctor; nil omits them.
func New(host Host, check func(context.Context, volume.View, error) []doctor.Finding) prometheus.Collector {
	return &collector{host: host, check: check}
}

// collector reads the host at its own rate, once for all concurrent requests.
type collector struct {
	host  Host
	check func(context.Context, volume.View, error) []doctor.Finding

	mu          sync.Mutex
	reading     chan struct{} // closed when the read in progress has finished; nil if there is none
	view        volume.View
	damage      []volume.Damage // in view
	deleted     []volume.Volume // in view
	err         error           // of the last read
	tried       time.Time       // when it finished
	viewed      time.Time       // when view was read; zero before the first one
	askedHealth time.Time
	healthTold  time.Time // when dimms and badblocks were read
	dimms       []pmem.DIMM
	badblocks   map[string]uint64 // of regions, in blocks of 512 bytes
	checked     time.Time
	findings    []doctor.Finding // when it was checked
	checking    bool
	checkBegan  time.Time
}

var (
	regionLabels  = []string{"region"}
	regionSize    = prometheus.NewDesc("pmemctl_region_size_bytes", "Size of a region, in bytes.", regionLabels, nil)
	regionFree    = prometheus.NewDesc("pmemctl_region_available_bytes", "Free space of a region, in raw bytes.", regionLabels, nil)
	regionExtent  = prometheus.NewDesc("pmemctl_region_max_available_extent_bytes", "Largest free extent of a region, in raw bytes.", regionLabels, nil)
	regionFrag    = prometheus.NewDesc("pmemctl_region_fragmentation_ratio", "Fragmentation of the free space of a region: 1 minus the share of its largest free extent; 0 is a single extent.", regionLabels, nil)
	regionBad     = prometheus.NewDesc("pmemctl_region_badblocks", "Media errors of a region, in blocks of 512 bytes.", regionLabels, nil)
	vgSize        = prometheus.NewDesc("pmemctl_vg_size_bytes", "Size of a volume group of pmemctl, in bytes.", []string{"vg"}, nil)
	vgFree        = prometheus.NewDesc("pmemctl_vg_free_bytes", "Free space of a volume group, in bytes.", []string{"vg"}, nil)
	vgMissing     = prometheus.NewDesc("pmemctl_vg_missing_devices", "1 if a device of the volume group is missing.", []string{"vg"}, nil)
	vgDamaged     = prometheus.NewDesc("pmemctl_vg_damaged", "1 if some metadata or a device of the volume group is missing or cannot be read.", []string{"vg"}, nil)
	regionGone    = prometheus.NewDesc("pmemctl_region_damaged", "1 for a region that had volumes and is now disabled or missing.", regionLabels, nil)
	volumesHidden = prometheus.NewDesc("pmemctl_volumes_out_of_sight", "Known volumes on devices that are missing or cannot be read.", nil, nil)
	volumeCount   = prometheus.NewDesc("pmemctl_volumes", "Number of volumes by type and state; the state deleting is the queue of volumes to be erased.", []string{"type", "state"}, nil)
	volumeBytes   = prometheus.NewDesc("pmemctl_volume_bytes", "Size of the volumes by type and state, in bytes.", []string{"type", "state"}, nil)
	eraseLeft     = prometheus.NewDesc("pmemctl_erase_bytes", "Bytes of deleted volumes that are not yet erased.", nil, nil)
	eraseRate     = prometheus.NewDesc("pmemctl_erase_bytes_per_second", "Rate at which deleted volumes are being erased, in bytes per second.", nil, nil)
	eraseOldest   = prometheus.NewDesc("pmemctl_erase_oldest_seconds", "Age of the oldest deleted volume that is not yet erased, in seconds since its deletion.", nil, nil)
	eraseFailed   = prometheus.NewDesc("pmemctl_erase_failed", "Number of deleted volumes that could not be erased.", nil, nil)
	dimmHealth    = prometheus.NewDesc("pmemctl_dimm_health", "1 for the health state that the firmware of the DIMM reports.", []string{"dimm", "state"}, nil)
	checkState    = prometheus.NewDesc("pmemctl_check_state", "Result of a check of pmemctl doctor: 0 ok, 1 note, 2 warning, 3 fault.", []string{"check", "object"}, nil)
	checkAge      = prometheus.NewDesc("pmemctl_check_age_seconds", "Age of the results of the checks, in seconds.", nil, nil)
	readErrorDesc = prometheus.NewDesc("pmemctl_read_error", "1 if the last attempt to read the host failed.", nil, nil)
	viewAge       = prometheus.NewDesc("pmemctl_view_age_seconds", "Age of these values, in seconds since the host was read. It grows while the host does not respond.", nil, nil)
	healthAge     = prometheus.NewDesc("pmemctl_health_age_seconds", "Age of the health and media errors of the DIMMs, in seconds.", nil, nil)
)

// Describe sends nothing, so that the host need not be read at startup.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

const (
	// viewEvery and healthEvery are the minimum intervals at which the host and the DIMMs'
	// firmware are read, however many requests there are.
	viewEvery   = 15 * time.Second
	healthEvery = time.Minute
	// checkEvery is the minimum interval of the checks, which also run the host's lvm.
	checkEvery = 5 * time.Minute
	// ScrapeTimeout is less than the 10 seconds that Prometheus waits.
	ScrapeTimeout = 8 * time.Second
	// readTimeout limits the lvm command of a read.
	readTimeout = time.Minute
)

// begin starts to read the host unless that was done recently or is in progress, and returns a
// channel that is closed when it has finished.
func (c *collector) begin() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading == nil && (c.tried.IsZero() || time.Since(c.tried) >= viewEvery) {
		c.reading = make(chan struct{})
		go c.read(c.tried.IsZero() || time.Since(c.askedHealth) >= healthEvery)
	}
	if c.reading == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return c.reading
}

func (c *collector) read(withHealth bool) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	look := c.host.Look
	if withHealth {
		look = c.host.LookAtEverything
	}
	view, err := look(ctx)
	var damage []volume.Damage
	var deleted []volume.Volume
	if err == nil {
		damage, deleted = c.host.Damage(view), c.host.DeletedIn(view)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried, c.err = time.Now(), err
	if withHealth {
		c.askedHealth = c.tried
	}
	if err == nil {
		c.view, c.damage, c.deleted, c.viewed = view, damage, deleted, c.tried
	}
	if err == nil && withHealth {
		c.healthTold, c.dimms, c.badblocks = c.tried, view.PMEM.DIMMs, map[string]uint64{}
		for _, r := range view.PMEM.Regions {
			c.badblocks[r.Dev] = r.BadblockCount
		}
	}
	close(c.reading)
	c.reading = nil
	if withHealth && c.check != nil && !c.checking && time.Since(c.checked) >= checkEvery {
		c.checking, c.checkBegan = true, time.Now()
		go c.runChecks(view, err)
	}
}

// runChecks checks what read has read. It may take longer than a scrape.
func (c *collector) runChecks(view volume.View, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	findings := c.check(ctx, view, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.findings, c.checked, c.checking = findings, time.Now(), false
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	select {
	case <-c.begin():
	case <-time.After(ScrapeTimeout): // the last values, with their age
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(readErrorDesc, number(c.err != nil))
	if c.findings != nil {
		gauge(checkAge, time.Since(c.checked).Seconds())
	}
	if c.checking && time.Since(c.checkBegan) > 2*readTimeout {
		gauge(checkState, float64(doctor.Fault.Rank()), "checks", "") // a device does not answer
	}
	for object, worst := range worstOf(c.findings) {
		gauge(checkState, float64(worst.Rank()), object.check, object.name)
	}
	if c.viewed.IsZero() {
		return
	}
	gauge(viewAge, time.Since(c.viewed).Seconds())
	gauge(healthAge, time.Since(c.healthTold).Seconds())
	view := c.view
	for _, r := range view.PMEM.Regions {
		gauge(regionSize, float64(r.Size), r.Dev)
		gauge(regionFree, float64(r.AvailableSize), r.Dev)
		gauge(regionExtent, float64(r.MaxAvailableExtent), r.Dev)
		gauge(regionFrag, fragmentation(r), r.Dev)
		gauge(regionBad, float64(c.badblocks[r.Dev]), r.Dev)
	}
	for _, vg := range view.OwnVGs() {
		gauge(vgSize, float64(vg.Size), vg.Name)
		gauge(vgFree, float64(vg.Free), vg.Name)
		gauge(vgMissing, number(vg.PartialPVMissing), vg.Name)
	}
	groups, regions, hidden := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, d := range c.damage {
		switch {
		case d.VG != "":
			groups[d.VG] = true
		case d.Volume == "" && d.Region != "":
			regions[d.Region] = true
		}
		for _, name := range d.Volumes {
			hidden[name] = true
		}
	}
	for vg := range groups {
		gauge(vgDamaged, 1, vg)
	}
	for region := range regions {
		gauge(regionGone, 1, region)
	}
	gauge(volumesHidden, float64(len(hidden)))
	type key struct{ kind, state string }
	count, bytes := map[key]int{}, map[key]uint64{}
	for _, t := range []volume.Type{volume.TypeLVM, volume.TypeDirect} {
		for _, state := range []volume.State{volume.Ready, volume.Creating, volume.Deleting, volume.Damaged} {
			count[key{string(t), string(state)}] = 0
		}
	}
	var left, rate, oldest, failed float64
	for _, vol := range c.deleted {
		left += float64(vol.RawSize - min(vol.RawSize, vol.Erasing.Done))
		rate += float64(vol.Erasing.Rate)
		oldest = max(oldest, time.Since(vol.Erasing.Since).Seconds())
		failed += number(vol.Erasing.Failed != "")
	}
	for _, vol := range view.Examined() {
		k := key{string(vol.Type), string(vol.State)}
		count[k]++
		bytes[k] += vol.Size
	}
	for k, n := range count {
		gauge(volumeCount, float64(n), k.kind, k.state)
		gauge(volumeBytes, float64(bytes[k]), k.kind, k.state)
	}
	gauge(eraseLeft, left)
	gauge(eraseRate, rate)
	gauge(eraseOldest, oldest)
	gauge(eraseFailed, failed)
	for _, d := range c.dimms {
		if d.Health != nil {
			gauge(dimmHealth, 1, d.Dev, d.Health.State)
		}
	}
}

type checkedObject struct{ check, name string }

// worstOf returns the worst state of each object.
func worstOf(findings []doctor.Finding) map[checkedObject]doctor.State {
	worst := map[checkedObject]doctor.State{}
	for _, f := range findings {
		// A label must be valid UTF-8, and locks come and go.
		object := checkedObject{f.Check, strings.ToValidUTF8(f.Object, "?")}
		if f.Check == "locks" {
			object.name = ""
		}
		if have, ok := worst[object]; !ok || f.State.Rank() > have.Rank() {
			worst[object] = f.State
		}
	}
	return worst
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
