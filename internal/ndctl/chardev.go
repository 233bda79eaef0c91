//go:build cgo

package ndctl

/*
#cgo pkg-config: libdaxctl
#include <ndctl/libndctl.h>
#include <daxctl/libdaxctl.h>
*/
import "C"

// chardev is the name of the first character device of a devdax namespace. It
// is in a file of its own because it needs libdaxctl.
func chardev(dax *C.struct_ndctl_dax) string {
	region := C.ndctl_dax_get_daxctl_region(dax)
	if region == nil {
		return ""
	}
	dev := C.daxctl_dev_get_first(region)
	if dev == nil {
		return ""
	}
	return C.GoString(C.daxctl_dev_get_devname(dev))
}
