// Package host contains the files that make a host ignore pmemctl's devices.
package host

import _ "embed"

// The files that `make install` and `pmemctl host setup` install.
var (
	//go:embed 12-pmemctl.rules
	UdevRules string
	//go:embed 98-pmemctl.rules
	UdevRulesEnd string
	//go:embed lvmlocal.conf
	LVMFilter string
	//go:embed initramfs-hook
	InitramfsHook string
	//go:embed dracut.conf
	DracutConf string
	// RegionsUnit has PROGRAM in place of the path of pmemctl.
	//go:embed pmemctl-regions.service
	RegionsUnit string
)
