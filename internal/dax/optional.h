// Functions that came after the oldest libdaxctl we run with.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <daxctl/libdaxctl.h>

// libdaxctl is the handle of the library once open_libdaxctl, which returns what went wrong,
// has returned NULL.
extern void *libdaxctl;
const char *open_libdaxctl(void);

#define LOOK_UP(name) __typeof__(&name) found = (__typeof__(&name)) dlsym(libdaxctl, #name)

static inline unsigned long dev_align(struct daxctl_dev *dev) {
	LOOK_UP(daxctl_dev_get_align);
	return found ? found(dev) : 0;
}

static inline int dev_will_auto_online_memory(struct daxctl_dev *dev) {
	LOOK_UP(daxctl_dev_will_auto_online_memory);
	return found ? found(dev) : -ENOSYS;
}

static inline int memory_is_movable(struct daxctl_memory *mem) {
	LOOK_UP(daxctl_memory_is_movable);
	return found ? found(mem) : -ENOSYS;
}

static inline int memory_online_no_movable(struct daxctl_memory *mem) {
	LOOK_UP(daxctl_memory_online_no_movable);
	return found ? found(mem) : -ENOSYS;
}
