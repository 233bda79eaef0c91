package dax

import (
	"cmp"
	"fmt"
	"slices"
)

// Mode is the mode of a dax device, in daxctl's terms.
type Mode string

// The modes of a dax device.
const (
	ModeDevDAX    Mode = "devdax"     // a character device to map: driver device_dax
	ModeSystemRAM Mode = "system-ram" // memory of the system: driver kmem
)

// The states of a dax device.
const (
	StateEnabled  = "enabled"
	StateDisabled = "disabled" // no driver; the mode is then devdax, as in daxctl
)

// Device is one dax device. Fields are named as in daxctl, sizes are bytes.
type Device struct {
	Chardev    string `json:"chardev"`
	Path       string `json:"path,omitempty"` // what to open; only of an enabled devdax device
	RegionID   int    `json:"region_id"`
	Size       uint64 `json:"size"`
	TargetNode *int   `json:"target_node,omitempty"` // the NUMA node of the memory in system-ram mode
	Align      uint64 `json:"align,omitempty"`
	Mode       Mode   `json:"mode"`
	State      string `json:"state"`
	// The other fields are set in system-ram mode, for root.
	OnlineMemblocks *int  `json:"online_memblocks,omitempty"`
	TotalMemblocks  *int  `json:"total_memblocks,omitempty"`
	Movable         *bool `json:"movable,omitempty"` // only with all blocks online
}

// Reconfigure describes the change of a device's mode. The zero values of all fields except the
// mode are daxctl's defaults.
type Reconfigure struct {
	Mode Mode
	// Options for system-ram.
	NoOnline  bool // add the memory, and leave onlining to another agent
	NoMovable bool // let the kernel use the memory too, which may then have to stay online until a reboot
	Force     bool // accept that something else onlines the memory, in any zone
	// Options for devdax.
	Offline bool // take the memory offline first
}

// sortDevices sorts devices by their numbers: dax0.2 is before dax0.10.
func sortDevices(devs []Device) {
	slices.SortFunc(devs, func(a, b Device) int {
		return cmp.Or(
			cmp.Compare(a.RegionID, b.RegionID),
			cmp.Compare(instance(a.Chardev), instance(b.Chardev)),
		)
	})
}

// instance is Y of daxX.Y.
func instance(chardev string) int {
	var x, y int
	fmt.Sscanf(chardev, "dax%d.%d", &x, &y)
	return y
}
