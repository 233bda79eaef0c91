package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pmemctl/pmemctl/internal/ndctl"
	"github.com/pmemctl/pmemctl/internal/pmem"
	"github.com/pmemctl/pmemctl/internal/volume"
)

func newDIMMCommand(a *app) *cobra.Command {
	list := hostListing(a, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the DIMMs with their health", Example: "  pmemctl dimm list\n  pmemctl dimm list -o wide", Args: cobra.NoArgs,
	}, func(_ context.Context, o outputFlag, _ []string) error {
		s, err := a.ndctl.Snapshot(ndctl.Select{DIMMs: true, Health: true})
		if err != nil {
			return err
		}
		if len(s.Buses) == 0 && !o.structured() {
			return volume.NoPMEM(s)
		}
		if len(s.Memdevs) == 0 {
			return show(a, o, "dimms", s.DIMMs, dimmColumns())
		}
		if o.structured() {
			return showObject(a.stdout, o, map[string]any{"dimms": s.DIMMs, "memdevs": s.Memdevs})
		}
		if err := show(a, o, "dimms", s.DIMMs, dimmColumns()); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
		return show(a, o, "memdevs", s.Memdevs, memdevColumns())
	})
	return group("dimm", "Show NVDIMMs", "pmemctl dimm list", list)
}

// memdevColumns are those of CXL memory devices, of which the kernel does not say which DIMM they
// are before Linux 6.12.
func memdevColumns() []column[pmem.Memdev] {
	return []column[pmem.Memdev]{
		{title: "CXL MEMORY", cell: func(m pmem.Memdev) string { return m.Dev }},
		{title: "SERIAL", cell: func(m pmem.Memdev) string { return fmt.Sprintf("%#x", m.Serial) }},
		{title: "SIZE", cell: func(m pmem.Memdev) string { return pmem.FormatSize(m.Size) }},
		{title: "HOST", cell: func(m pmem.Memdev) string { return m.Host }},
		{title: "CXL REGION", cell: func(m pmem.Memdev) string { return dash(strings.Join(m.Regions, ",")) }},
		{title: "NUMA", wide: true, cell: func(m pmem.Memdev) string { return nodeText(m.NUMANode) }},
		{title: "DECODER", wide: true, cell: func(m pmem.Memdev) string { return dash(m.Decoder) }},
	}
}

func dimmColumns() []column[pmem.DIMM] {
	return []column[pmem.DIMM]{
		{title: "DIMM", cell: func(d pmem.DIMM) string { return d.Dev }},
		{title: "BUS", cell: func(d pmem.DIMM) string { return d.Bus }},
		{title: "STATE", cell: func(d pmem.DIMM) string { return d.State }},
		{title: "HEALTH", cell: func(d pmem.DIMM) string { return healthOf(d, func(h *pmem.Health) string { return h.State }) }},
		{title: "FLAGS", cell: func(d pmem.DIMM) string { return dash(strings.Join(d.Flags, ",")) }},
		{title: "LABELS", cell: func(d pmem.DIMM) string { return pmem.FormatSize(d.LabelSize) }},
		{title: "ID", wide: true, cell: func(d pmem.DIMM) string { return dash(d.ID) }},
		{title: "HANDLE", wide: true, cell: func(d pmem.DIMM) string { return valueOf(d.Handle, "%#x") }},
		{title: "TEMPERATURE", wide: true, cell: func(d pmem.DIMM) string {
			return healthOf(d, func(h *pmem.Health) string { return valueOf(h.TemperatureCelsius, "%.1f C") })
		}},
		{title: "SPARES", wide: true, cell: func(d pmem.DIMM) string {
			return healthOf(d, func(h *pmem.Health) string { return valueOf(h.SparesPercentage, "%d%%") })
		}},
		{title: "LIFE USED", wide: true, cell: func(d pmem.DIMM) string {
			return healthOf(d, func(h *pmem.Health) string { return valueOf(h.LifeUsedPercentage, "%d%%") })
		}},
		{title: "SHUTDOWN", wide: true, cell: func(d pmem.DIMM) string {
			return healthOf(d, func(h *pmem.Health) string { return dash(h.ShutdownState) })
		}},
		{title: "SECURITY", wide: true, cell: func(d pmem.DIMM) string { return dash(d.Security) }},
	}
}

func healthOf(d pmem.DIMM, text func(*pmem.Health) string) string {
	if d.Health == nil {
		return "-"
	}
	return text(d.Health)
}

func valueOf[T any](v *T, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

func newBusCommand(a *app) *cobra.Command {
	list := hostListing(a, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the NVDIMM buses", Example: "  pmemctl bus list", Args: cobra.NoArgs,
	}, func(_ context.Context, o outputFlag, _ []string) error {
		s, err := a.ndctl.Snapshot(ndctl.Select{})
		if err != nil {
			return err
		}
		if len(s.Buses) == 0 && !o.structured() {
			return volume.NoPMEM(s)
		}
		return show(a, o, "buses", s.Buses, []column[pmem.Bus]{
			{title: "BUS", cell: func(b pmem.Bus) string { return b.Dev }},
			{title: "PROVIDER", cell: func(b pmem.Bus) string { return b.Provider }},
			{title: "CAVEAT", wide: true, cell: func(b pmem.Bus) string { return dash(b.Caveat()) }},
			{title: "SCRUB", cell: func(b pmem.Bus) string { return dash(b.ScrubState) }},
		})
	})
	return group("bus", "Show NVDIMM buses", "pmemctl bus list", list)
}
