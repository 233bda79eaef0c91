package metrics

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/doctor"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

// countedHost counts how often it is read. Each read takes a while.
type countedHost struct {
	looks, everything atomic.Int32
	takes             atomic.Int64 // nanoseconds
	fail              atomic.Bool
	atOnce, most      atomic.Int32
}

func (h *countedHost) Look(ctx context.Context) (volume.View, error) {
	h.looks.Add(1)
	return h.answer(ctx, false)
}

func (h *countedHost) LookAtEverything(ctx context.Context) (volume.View, error) {
	h.everything.Add(1)
	return h.answer(ctx, true)
}

func (h *countedHost) Damage(volume.View) []volume.Damage {
	return []volume.Damage{
		{VG: "pmemvg", Namespace: "namespace0.0", Region: "region0", Volumes: []string{"a", "b"}},
		{VG: "pmemvg", Namespace: "namespace1.0", Region: "region1", Volumes: []string{"a", "b"}},
		{Region: "region7", Volumes: []string{"c"}},
		{Volume: "d", Region: "region0"},
	}
}

func (h *countedHost) DeletedIn(volume.View) []volume.Volume {
	return []volume.Volume{
		{RawSize: 100, Erasing: &volume.Erasure{Since: time.Now().Add(-time.Hour), Done: 40, Rate: 7}},
		{RawSize: 10, Erasing: &volume.Erasure{Since: time.Now(), Failed: "no"}},
	}
}

func (h *countedHost) answer(ctx context.Context, all bool) (volume.View, error) {
	h.most.Store(max(h.most.Load(), h.atOnce.Add(1)))
	defer h.atOnce.Add(-1)
	select {
	case <-time.After(time.Duration(h.takes.Load())):
	case <-ctx.Done():
		return volume.View{}, ctx.Err()
	}
	if h.fail.Load() {
		return volume.View{}, errors.New("no answer")
	}
	var v volume.View
	v.PMEM.Regions = []pmem.Region{{Dev: "region0", Size: 1 << 30}}
	if all {
		v.PMEM.Regions[0].BadblockCount = 7
		v.PMEM.DIMMs = []pmem.DIMM{{Dev: "nmem0", Health: &pmem.Health{State: "fatal"}}}
	}
	return v, nil
}

// scraped is a collector and its output.
func scraped(h Host) func(*testing.T) map[string]float64 {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{host: h})
	short := map[string]string{"pmemctl_region_size_bytes": "size", "pmemctl_region_badblocks": "bad", "pmemctl_dimm_health": "health",
		"pmemctl_read_error": "error", "pmemctl_view_age_seconds": "age", "pmemctl_health_age_seconds": "health age"}
	return func(t *testing.T) map[string]float64 {
		families, err := registry.Gather()
		assert.NoError(t, err)
		got := map[string]float64{}
		for _, f := range families {
			if name := short[f.GetName()]; name != "" {
				got[name] = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return got
	}
}

func TestScrapesShareTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &countedHost{}
		h.takes.Store(int64(time.Second))
		scrape := scraped(h)
		assert.Zero(t, h.everything.Load()+h.looks.Load(), "the start asks nothing")
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { assert.Equal(t, 1.0, scrape(t)["health"]) })
		}
		wg.Wait()
		assert.Equal(t, int32(1), h.everything.Load(), "twenty scrapes at a time ask once")
		assert.Zero(t, h.looks.Load())

		for range 300 { // a scrape each second, for five minutes
			time.Sleep(time.Second)
			got := scrape(t)
			assert.Equal(t, 7.0, got["bad"], "what was read last of the firmware is told on")
			assert.Equal(t, 1.0, got["health"])
			assert.LessOrEqual(t, got["age"], viewEvery.Seconds())
			assert.LessOrEqual(t, got["health age"], (healthEvery + viewEvery).Seconds())
		}
		assert.LessOrEqual(t, h.everything.Load(), int32(1+300/60))
		assert.Greater(t, h.everything.Load(), int32(3))
		assert.LessOrEqual(t, h.everything.Load()+h.looks.Load(), int32(1+300/15))
		assert.Equal(t, int32(1), h.most.Load(), "one at a time")
	})
}

func TestScrapesOfUnresponsiveHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &countedHost{}
		scrape := scraped(h)
		assert.Equal(t, map[string]float64{"error": 0, "age": 0, "health age": 0, "size": 1 << 30, "bad": 7, "health": 1}, scrape(t))
		h.takes.Store(int64(time.Hour))
		time.Sleep(viewEvery)
		begun := time.Now()
		got := scrape(t)
		assert.Equal(t, ScrapeTimeout, time.Since(begun), "Prometheus is not kept waiting")
		assert.Equal(t, float64(1<<30), got["size"])
		assert.Equal(t, (viewEvery + ScrapeTimeout).Seconds(), got["age"], "and told how old it is")
		for range 5 {
			scrape(t)
		}
		assert.Equal(t, int32(1), h.looks.Load(), "nobody else asks beside it")
		time.Sleep(readTimeout)
		synctest.Wait()
		assert.Equal(t, 1.0, scrape(t)["error"], "given up")

		h.takes.Store(0)
		h.fail.Store(true)
		time.Sleep(viewEvery + readTimeout)
		synctest.Wait()
		before := h.looks.Load() + h.everything.Load()
		for range 10 {
			scrape(t)
		}
		assert.LessOrEqual(t, h.looks.Load()+h.everything.Load()-before, int32(1), "what fails is not tried again at once either")
		h.fail.Store(false)
		time.Sleep(healthEvery)
		assert.Equal(t, map[string]float64{"error": 0, "age": 0, "health age": 0, "size": 1 << 30, "bad": 7, "health": 1}, scrape(t))
	})
}

// TestDamageIsAMetric: a group is reported once, even if two of its devices are damaged.
func TestDamageIsAMetric(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{host: &countedHost{}})
	families, err := registry.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue()
		}
	}
	assert.Equal(t, 1.0, got["pmemctl_vg_damaged pmemvg"])
	assert.Equal(t, 1.0, got["pmemctl_region_damaged region7"])
	assert.NotContains(t, got, "pmemctl_region_damaged region0")
	assert.Equal(t, 3.0, got["pmemctl_volumes_out_of_sight"])
}

// TestChecks: the checks of doctor are exported by their worst states, and run every few minutes,
// one at a time, however long they take.
func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ran atomic.Int32
		takes := time.Second
		registry := prometheus.NewRegistry()
		registry.MustRegister(New(&countedHost{}, func(context.Context, volume.View, error) []doctor.Finding {
			ran.Add(1)
			time.Sleep(takes)
			return []doctor.Finding{{Check: "dimm", Object: "nmem0", State: doctor.Fault}, {Check: "dimm", Object: "nmem0", State: doctor.Warning}, {Check: "kernel", State: doctor.OK},
				{Check: "locks", Object: "volume-a", State: doctor.Note}, {Check: "device mapper", Object: "a\xff", State: doctor.Fault}}
		}))
		states := func() map[string]float64 {
			families, err := registry.Gather()
			assert.NoError(t, err)
			got := map[string]float64{}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					if f.GetName() == "pmemctl_check_state" {
						got[m.GetLabel()[0].GetValue()+" "+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
					}
				}
			}
			return got
		}
		assert.Empty(t, states(), "a scrape does not wait for them")
		time.Sleep(takes)
		synctest.Wait()
		want := map[string]float64{"dimm nmem0": 3, "kernel ": 0, "locks ": 1, "device mapper a?": 3}
		assert.Equal(t, want, states())
		takes = time.Hour
		for range 100 {
			time.Sleep(viewEvery)
			got := states()
			delete(got, "checks ")
			assert.Equal(t, want, got)
		}
		assert.Equal(t, 3.0, states()["checks "], "they take too long")
		assert.Equal(t, int32(2), ran.Load())
		time.Sleep(takes)
	})
}
