//go:build cgo

package ndctl

// #include "optional.h"
import "C"

import (
	"math"

	"github.com/pmemctl/pmemctl/internal/pmem"
)

func snapshotDIMM(d *C.struct_ndctl_dimm, bus string, withHealth bool) pmem.DIMM {
	dimm := pmem.DIMM{
		Dev:      C.GoString(C.ndctl_dimm_get_devname(d)),
		Bus:      bus,
		State:    state(C.ndctl_dimm_is_enabled(d)),
		Security: security(C.ndctl_dimm_get_security(d)),
		Flags:    []string{},
	}
	const none = math.MaxUint32 // libndctl's for memory that ACPI does not describe
	if handle := uint32(C.ndctl_dimm_get_handle(d)); handle != none {
		phys := uint16(C.ndctl_dimm_get_phys_id(d))
		dimm.Handle, dimm.PhysID = &handle, &phys
	}
	if id := C.ndctl_dimm_get_unique_id(d); id != nil {
		dimm.ID = C.GoString(id)
	}
	for _, f := range []struct {
		name string
		set  C.int
	}{
		{"failed_save", C.ndctl_dimm_failed_save(d)},
		{"failed_arm", C.ndctl_dimm_failed_arm(d)},
		{"failed_restore", C.ndctl_dimm_failed_restore(d)},
		{"failed_map", C.ndctl_dimm_failed_map(d)},
		{"failed_flush", C.ndctl_dimm_failed_flush(d)},
		{"smart_event", C.ndctl_dimm_smart_pending(d)},
		{"locked", C.ndctl_dimm_locked(d)},
	} {
		if f.set == 1 {
			dimm.Flags = append(dimm.Flags, f.name)
		}
	}
	dimm.LabelSize = labelSize(d)
	if withHealth {
		dimm.Health = health(d)
	}
	return dimm
}

func security(s C.enum_ndctl_security_state) string {
	switch s {
	case C.NDCTL_SECURITY_DISABLED:
		return "disabled"
	case C.NDCTL_SECURITY_UNLOCKED:
		return "unlocked"
	case C.NDCTL_SECURITY_LOCKED:
		return "locked"
	case C.NDCTL_SECURITY_FROZEN:
		return "frozen"
	case C.NDCTL_SECURITY_OVERWRITE:
		return "overwrite"
	}
	return ""
}

// labelSize returns the size of the DIMM's label area in bytes; 0 if it has none.
func labelSize(d *C.struct_ndctl_dimm) uint64 {
	if C.ndctl_dimm_is_cmd_supported(d, C.ND_CMD_GET_CONFIG_SIZE) == 0 {
		return 0
	}
	cmd := C.ndctl_dimm_cmd_new_cfg_size(d)
	if cmd == nil {
		return 0
	}
	defer C.ndctl_cmd_unref(cmd)
	if C.ndctl_cmd_submit(cmd) < 0 {
		return 0
	}
	return uint64(C.ndctl_cmd_cfg_size_get_size(cmd))
}

// health queries the DIMM's firmware; nil if it does not answer.
func health(d *C.struct_ndctl_dimm) *pmem.Health {
	cmd := C.ndctl_dimm_cmd_new_smart(d)
	if cmd == nil {
		return nil
	}
	defer C.ndctl_cmd_unref(cmd)
	if C.ndctl_cmd_submit_xlat(cmd) < 0 {
		return nil
	}
	flags := C.ndctl_cmd_smart_get_flags(cmd)
	has := func(flag C.uint) bool { return flags&flag != 0 }
	h := &pmem.Health{State: "unknown"}
	if has(C.ND_SMART_HEALTH_VALID) {
		h.State = healthState(C.ndctl_cmd_smart_get_health(cmd))
	}
	if has(C.ND_SMART_MTEMP_VALID) {
		h.TemperatureCelsius = celsius(C.ndctl_cmd_smart_get_media_temperature(cmd))
	}
	if has(C.ND_SMART_CTEMP_VALID) {
		h.ControllerTemperature = celsius(C.ndctl_cmd_smart_get_ctrl_temperature(cmd))
	}
	if has(C.ND_SMART_SPARES_VALID) {
		h.SparesPercentage = pointer(uint(C.ndctl_cmd_smart_get_spares(cmd)))
	}
	if has(C.ND_SMART_USED_VALID) {
		h.LifeUsedPercentage = pointer(uint(C.ndctl_cmd_smart_get_life_used(cmd)))
	}
	if has(C.ND_SMART_ALARM_VALID) {
		alarms := C.ndctl_cmd_smart_get_alarm_flags(cmd)
		h.AlarmTemperature = pointer(alarms&C.ND_SMART_MTEMP_TRIP != 0)
		h.AlarmSpares = pointer(alarms&C.ND_SMART_SPARE_TRIP != 0)
	}
	if has(C.ND_SMART_SHUTDOWN_VALID) {
		h.ShutdownState = "clean"
		if C.ndctl_cmd_smart_get_shutdown_state(cmd) != 0 {
			h.ShutdownState = "dirty"
		}
	}
	if has(C.ND_SMART_SHUTDOWN_COUNT_VALID) {
		h.ShutdownCount = pointer(uint(C.ndctl_cmd_smart_get_shutdown_count(cmd)))
	}
	if n := int64(C.dimm_dirty_shutdowns(d)); n >= 0 {
		h.DirtyShutdownCount = &n
	}
	return h
}

func healthState(h C.uint) string {
	switch {
	case h&C.ND_SMART_FATAL_HEALTH != 0:
		return "fatal"
	case h&C.ND_SMART_CRITICAL_HEALTH != 0:
		return "critical"
	case h&C.ND_SMART_NON_CRITICAL_HEALTH != 0:
		return "non-critical"
	}
	return "ok"
}

// celsius converts the firmware's sixteenths of a degree, with the sign in bit 15 (ndctl
// json-smart.c).
func celsius(t C.uint) *float64 {
	v := float64(t&0x7fff) / 16
	if t&0x8000 != 0 {
		v = -v
	}
	return &v
}

func pointer[T any](v T) *T { return &v }
