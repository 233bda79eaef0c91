//go:build cgo

package ndctl

/*
#include "optional.h"
#include <daxctl/libdaxctl.h>

static const char *first_chardev(struct ndctl_dax *dax) {
	struct daxctl_region *region = FOUND(ndctl_dax_get_daxctl_region)(dax);
	struct daxctl_dev *dev = region ? FOUND(daxctl_dev_get_first)(region) : NULL;

	return dev ? FOUND(daxctl_dev_get_devname)(dev) : NULL;
}
*/
import "C"

// chardev returns the name of the first character device of a devdax namespace. It is in a
// separate file because it requires libdaxctl, which libndctl has loaded.
func chardev(dax *C.struct_ndctl_dax) string { return C.GoString(C.first_chardev(dax)) }
