package cxl_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pmemctl/pmemctl/internal/cxl"
	"github.com/pmemctl/pmemctl/internal/errs"
	"github.com/pmemctl/pmemctl/internal/pmem"
)

// machine is a host with two memory devices below one root decoder, on which cxl makes regions.
type machine struct {
	cxl.Host
	t        *testing.T
	ram      uint64                       // volatile bytes of each device
	twice    bool                         // a third device has the serial number of the first
	without  string                       // the memory device that has no endpoint
	others   map[string]map[string]string // regions that are not committed, or not persistent
	swapped  bool                         // mem0 and mem1 have changed places, as they do at a boot
	options  string
	makes    func(r *cxl.Region) // what the kernel makes of a command
	commands []string
	regions  []cxl.Region
	err      error
}

const window = 0x250000000

func newMachine(t *testing.T) *machine {
	m := &machine{t: t}
	m.Run = m.run
	m.CXL, m.NVDIMM = filepath.Join(t.TempDir(), "cxl"), filepath.Join(t.TempDir(), "nd")
	m.boot()
	return m
}

func (m *machine) serial(memdev string) cxl.Hex {
	if (memdev == "mem0") != m.swapped {
		return 0x1234
	}
	return 0x5678
}

// boot makes sysfs anew, with the regions that there are.
func (m *machine) boot() {
	const port = "platform/ACPI0017:00/root0/port1/"
	devices := map[string]map[string]string{
		"pci0000:0c/0000:0d:00.0/mem0":          {"serial": m.serial("mem0").String(), "pmem/size": "0x40000000", "ram/size": fmt.Sprint(m.ram)},
		"pci0000:0c/0000:0e:00.0/mem1":          {"serial": m.serial("mem1").String(), "pmem/size": "0x40000000", "ram/size": fmt.Sprint(m.ram)},
		"platform/ACPI0017:00/root0/decoder0.0": {"cap_pmem": "1", "start": fmt.Sprintf("%#x", window), "target_list": "12"},
		port[:len(port)-1]:                      {}, "platform/ACPI0017:00/root0": {},
	}
	if m.twice {
		devices["pci0000:0c/0000:0f:00.0/mem2"] = map[string]string{"serial": "0x1234", "pmem/size": "0x40000000"}
	}
	links := map[string]string{"port1/uport": "ACPI0016:00", "root0/dport12": "ACPI0016:00"}
	for i, memdev := range []string{"mem0", "mem1"} {
		if m.without != memdev {
			endpoint := fmt.Sprintf("endpoint%d", 2+i)
			devices[port+endpoint], links[endpoint+"/uport"] = map[string]string{}, memdev
		}
	}
	for dev, attributes := range m.others {
		devices["platform/ACPI0017:00/root0/decoder0.0/"+dev] = attributes
	}
	nvdimm := filepath.Join(m.t.TempDir(), "nd")
	for i, r := range m.regions {
		attributes := map[string]string{
			"commit": "1", "interleave_ways": fmt.Sprint(len(r.Targets)), "interleave_granularity": fmt.Sprint(r.Granularity), "size": fmt.Sprintf("%#x", r.Size), "uuid": r.UUID,
		}
		for position, t := range r.Targets {
			endpoint := 2
			if m.serial("mem1") == t.Serial {
				endpoint = 3
			}
			decoder := fmt.Sprintf("decoder%d.%d", endpoint, i)
			devices[fmt.Sprintf("%sendpoint%d/%s", port, endpoint, decoder)] = map[string]string{"mode": "pmem", "dpa_resource": fmt.Sprintf("%#x", t.Offset)}
			attributes[fmt.Sprintf("target%d", position)] = decoder
		}
		devices["platform/ACPI0017:00/root0/decoder0.0/"+r.Dev] = attributes
		require.NoError(m.t, os.MkdirAll(filepath.Join(nvdimm, r.Dev), 0o700))
		require.NoError(m.t, os.WriteFile(filepath.Join(nvdimm, r.Dev, "set_cookie"), []byte(r.Cookie.String()+"\n"), 0o600))
	}
	for link, to := range map[string]string{m.CXL: sysfs(m.t, devices, links), m.NVDIMM: nvdimm} {
		_ = os.Remove(link)
		require.NoError(m.t, os.Symlink(to, link))
	}
}

// lose is a reboot: the regions are gone, and the devices have other names.
func (m *machine) lose() {
	m.regions, m.swapped = nil, !m.swapped
	m.boot()
}

// run is cxl.
func (m *machine) run(_ context.Context, name string, args ...string) ([]byte, error) {
	require.Equal(m.t, "cxl", name)
	if slices.Equal(args, []string{"create-region", "--list-opts"}) {
		return []byte("--bus " + m.options), errors.New("exit status 130")
	}
	m.commands = append(m.commands, strings.Join(args, " "))
	if m.err != nil {
		return nil, m.err
	}
	switch args[0] {
	case "destroy-region":
		m.regions = slices.DeleteFunc(m.regions, func(r cxl.Region) bool { return r.Dev == args[1] })
	case "create-region":
		r := cxl.Region{Dev: fmt.Sprintf("region%d", len(m.regions)), UUID: "00000000-0000-4000-8000-000000000000"}
		for i, arg := range args {
			switch {
			case arg == "-g":
				r.Granularity, _ = strconv.ParseUint(args[i+1], 0, 64)
			case arg == "-s":
				r.Size, _ = strconv.ParseUint(args[i+1], 0, 64)
			case strings.HasPrefix(arg, "mem"):
				r.Targets = append(r.Targets, cxl.Target{Serial: m.serial(arg), Offset: m.ram})
			}
		}
		for i, t := range r.Targets { // a device's memory is given out from its beginning
			for _, other := range m.regions {
				for _, o := range other.Targets {
					if o.Serial == t.Serial {
						r.Targets[i].Offset += other.Size / uint64(len(other.Targets))
					}
				}
			}
			r.Cookie = r.Cookie*31 + t.Serial + cxl.Hex(r.Targets[i].Offset)
		}
		if m.makes != nil {
			m.makes(&r)
		}
		m.regions = append(m.regions, r)
	}
	m.boot()
	return nil, nil
}

// create makes a region as a person does.
func (m *machine) create(granularity, size uint64, memdevs ...string) {
	_, err := m.run(context.Background(), "cxl", append([]string{"create-region", "-g", fmt.Sprint(granularity), "-s", fmt.Sprint(size)}, memdevs...)...)
	require.NoError(m.t, err)
	m.commands = nil
}

// save returns the regions as they come from the file.
func (m *machine) save() []cxl.Region {
	file := filepath.Join(m.t.TempDir(), "etc", "cxl-regions.json")
	require.NoError(m.t, cxl.Save(file, m.Regions()))
	regions, err := cxl.Load(file)
	require.NoError(m.t, err)
	require.Len(m.t, regions, len(m.regions))
	return regions
}

func TestRestore(t *testing.T) {
	m := newMachine(t)
	m.create(1024, 512*pmem.MiB, "mem1", "mem0")
	m.create(256, 256*pmem.MiB, "mem0")
	saved := m.save()
	slices.Reverse(saved)

	again := m.Restore(context.Background(), saved, false)
	require.Len(t, again, 2)
	assert.True(t, again[0].Exists)
	assert.True(t, again[1].Exists)
	assert.Empty(t, m.commands)

	m.lose()
	m.options = "--uuid"
	dry := m.Restore(context.Background(), saved, true)
	assert.Empty(t, m.commands)
	done := m.Restore(context.Background(), saved, false)
	for i, r := range done {
		require.NoError(t, r.Err)
		require.NoError(t, dry[i].Err)
		assert.Equal(t, dry[i].Command, r.Command)
		assert.Empty(t, m.Regions()[i].Differences(r.Region))
	}
	// By offset, whatever the order in the file; by serial number, whatever the names.
	assert.Equal(t, []string{
		"create-region -m -t pmem -d decoder0.0 -w 2 -g 1024 -s 536870912 -U 00000000-0000-4000-8000-000000000000 mem0 mem1",
		"create-region -m -t pmem -d decoder0.0 -w 1 -g 256 -s 268435456 -U 00000000-0000-4000-8000-000000000000 mem1",
	}, m.commands)
}

// TestRestoreMixed: devices whose persistent memory comes after volatile memory.
func TestRestoreMixed(t *testing.T) {
	m := newMachine(t)
	m.ram = 512 * pmem.MiB
	m.boot()
	m.create(1024, pmem.GiB+512*pmem.MiB, "mem1", "mem0")
	saved := m.save()
	m.lose()
	got := m.Restore(context.Background(), saved, false)
	require.NoError(t, got[0].Err)
	assert.Len(t, m.regions, 1)
	m.lose()
	m.ram = pmem.GiB // partitioned anew
	m.boot()
	require.ErrorContains(t, m.Restore(context.Background(), saved, false)[0].Err, "has persistent memory from 1073741824 to 2147483648, and the region is from 536870912 to")
}

// TestRegionsAreCommitted: others are left out.
func TestRegionsAreCommitted(t *testing.T) {
	m := newMachine(t)
	m.create(1024, 512*pmem.MiB, "mem1", "mem0")
	m.others = map[string]map[string]string{
		"region7": {"commit": "0", "interleave_ways": "1", "target0": "decoder2.0"},
		"region8": {"commit": "1", "interleave_ways": "1", "target0": "decoder9.9"}, // of mode ram
	}
	m.boot()
	require.Len(t, m.Regions(), 1)
	assert.Equal(t, "region0", m.Regions()[0].Dev)
	assert.Equal(t, uint64(1024), cxl.Granularity(m.CXL, "region0"))
	assert.Zero(t, cxl.Granularity(m.CXL, "region9"))
	m.regions = nil
	m.create(1024, 512*pmem.MiB, "mem1")
	assert.Zero(t, cxl.Granularity(m.CXL, "region0"), "it is not interleaved")
}

// TestRestoreBesideOthers: a region that another program creates at the same time is not taken for
// the new one, and is not destroyed.
func TestRestoreBesideOthers(t *testing.T) {
	m := newMachine(t)
	m.create(256, 256*pmem.MiB, "mem0")
	saved := m.save()
	m.lose() // mem1 is the device
	m.makes = func(r *cxl.Region) {
		if r.Targets[0].Serial == 0x1234 {
			m.regions = append(m.regions, cxl.Region{Dev: "region9", Granularity: 256, Size: pmem.GiB, Cookie: 9, UUID: r.UUID, Targets: []cxl.Target{{Serial: 0x5678}}})
		}
	}
	got := m.Restore(context.Background(), saved, false)
	require.NoError(t, got[0].Err)
	assert.Equal(t, "region0", got[0].Dev)
	assert.Len(t, m.regions, 2)
}

func TestAwait(t *testing.T) {
	m := newMachine(t)
	m.create(1024, 512*pmem.MiB, "mem1", "mem0")
	saved := m.save()
	m.without = "mem1"
	m.lose()
	require.ErrorContains(t, m.Restore(context.Background(), saved, false)[0].Err, "is not reached by a decoder")
	done := make(chan bool)
	go func() { m.Await(context.Background(), saved); close(done) }()
	select {
	case <-done:
		t.Fatal("the devices are not there yet")
	case <-time.After(300 * time.Millisecond):
	}
	m.without = ""
	m.boot()
	<-done
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m.without = "mem1"
	m.boot()
	m.Await(ctx, saved)
}

func TestRestoreRefuses(t *testing.T) {
	two := func(m *machine) { m.create(1024, 512*pmem.MiB, "mem1", "mem0") }
	for name, c := range map[string]struct {
		after func(m *machine, saved []cxl.Region) // the reboot
		kind  errs.Kind
		want  string
		made  int // regions afterwards
	}{
		"another granularity": {func(m *machine, _ []cxl.Region) { m.create(2048, 512*pmem.MiB, "mem0", "mem1") }, errs.Conflict, "exists as region0 with granularity 2048 instead of 1024", 1},
		"another order":       {func(m *machine, _ []cxl.Region) { m.create(1024, 512*pmem.MiB, "mem1", "mem0") }, errs.Conflict, "exists as region0 with devices 0x1234,0x5678 instead of 0x5678,0x1234", 1},
		"one device alone":    {func(m *machine, _ []cxl.Region) { m.create(1024, 512*pmem.MiB, "mem1") }, errs.Conflict, "exists as region0 with devices 0x1234 instead of", 1},
		"another size":        {func(m *machine, _ []cxl.Region) { m.create(1024, 256*pmem.MiB, "mem0", "mem1") }, errs.Conflict, "size 268435456 instead of 536870912", 1},
		"no device":           {func(_ *machine, saved []cxl.Region) { saved[0].Targets[1].Serial = 0x99 }, errs.NotFound, "memory device with serial 0x99: is not there", 0},
		"a smaller device":    {func(_ *machine, saved []cxl.Region) { saved[0].Size = 4 * pmem.GiB }, errs.Conflict, "has persistent memory from 0 to 1073741824, and the region is from 0 to 2147483648", 0},
		"disabled": {func(m *machine, _ []cxl.Region) {
			m.makes = func(r *cxl.Region) { r.Cookie = 0 }
			m.create(1024, 512*pmem.MiB, "mem0", "mem1")
		}, errs.Unsupported, "exists as region0, and the NVDIMM driver has no region for it", 1},
		"a serial number twice": {func(m *machine, _ []cxl.Region) { m.twice = true; m.boot() }, errs.Conflict, "is there more than once", 0},
		"no decoder":            {func(_ *machine, saved []cxl.Region) { saved[0].Window = 1 }, errs.Conflict, "none for persistent memory begins at 0x1", 0},
		"cxl fails":             {func(m *machine, _ []cxl.Region) { m.err = errors.New("failed to commit decode") }, "", "could not be created: failed to commit decode", 0},
		"the kernel differs":    {func(m *machine, _ []cxl.Region) { m.makes = func(r *cxl.Region) { r.Granularity = 4096 } }, errs.Conflict, "came up with granularity 4096 instead of 1024, and was destroyed again", 0},
		"another cookie":        {func(m *machine, _ []cxl.Region) { m.makes = func(r *cxl.Region) { r.Cookie++ } }, errs.Conflict, "set cookie", 0},
		"another offset": {func(m *machine, _ []cxl.Region) {
			m.makes = func(r *cxl.Region) { r.Targets[0].Offset += 256 * pmem.MiB }
		}, errs.Conflict, "offset on 0x5678 268435456 instead of 0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			two(m)
			saved := m.save()
			m.lose()
			c.after(m, saved)
			m.commands = nil
			got := m.Restore(context.Background(), saved, false)
			require.Len(t, got, 1)
			require.ErrorContains(t, got[0].Err, c.want)
			if c.kind != "" {
				assert.True(t, errs.Is(got[0].Err, c.kind), "%v", got[0].Err)
			}
			assert.NotEmpty(t, errs.NextStep(got[0].Err))
			assert.Len(t, m.regions, c.made)
			if c.made > 0 {
				assert.Empty(t, m.commands, "what exists is left unchanged")
			}
		})
	}
}

func TestParse(t *testing.T) {
	const region = `{"regions":[{"window":"0x1","granularity":%d,"size":%d,"set_cookie":"0x7","uuid":"00000000-0000-4000-8000-000000000000","targets":[{"serial":"%#x","offset":0},{"serial":"0x2","offset":0}]}]}`
	for text, want := range map[string]string{
		fmt.Sprintf(region, 256, 1024, 1):                                         "",
		fmt.Sprintf(region, 300, 1024, 1):                                         "granularity",
		fmt.Sprintf(region, 128, 1024, 1):                                         "granularity",
		fmt.Sprintf(region, 32768, 1024, 1):                                       "granularity",
		fmt.Sprintf(region, 256, 1023, 1):                                         "size",
		fmt.Sprintf(region, 256, 0, 1):                                            "size",
		fmt.Sprintf(region, 256, 1024, 2):                                         "serial",
		`{"regions":[{"granularity":256,"size":1}]}`:                              "0 devices",
		`{"regions":[{"targets":[{"serial":7}]}]}`:                                "serial",
		`{"regions":[{"granularity":256,"size":1,"targets":[{"serial":"0x7"}]}]}`: "cookie",
		`{"regions":[{"granularity":256,"size":1,"uuid":"x","set_cookie":"1","targets":[{"serial":"0x7"}]}]}`: "UUID",
		`[`: "unexpected end",
	} {
		_, err := cxl.Parse([]byte(text))
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
	}
	none, err := cxl.Load(filepath.Join(t.TempDir(), "none"))
	require.NoError(t, err)
	assert.Empty(t, none)
}

// FuzzParse: what is accepted is written as it was read.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"regions":[{"window":"0x1","granularity":256,"size":1024,"set_cookie":"0x7","uuid":"00000000-0000-4000-8000-000000000000","targets":[{"serial":"0x1","offset":0},{"serial":"0x2","offset":4096}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		regions, err := cxl.Parse(data)
		if err != nil {
			return
		}
		file := filepath.Join(t.TempDir(), "f")
		require.NoError(t, cxl.Save(file, regions))
		again, err := cxl.Load(file)
		require.NoError(t, err)
		for i, r := range again {
			require.Equal(t, regions[i], r)
		}
	})
}
