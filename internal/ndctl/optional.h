// Functions that came after the oldest libndctl we run with.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <ndctl/libndctl.h>
#include <linux/ndctl.h>

// libndctl is the handle of the library once open_libndctl, which returns what went wrong,
// has returned NULL.
extern void *libndctl;
const char *open_libndctl(void);

#define FOUND(name) ((__typeof__(&name)) dlsym(libndctl, #name))
#define LOOK_UP(name) __typeof__(&name) found = FOUND(name)

static inline bool has_symbol(const char *name) {
	return dlsym(libndctl, name) != NULL;
}

static inline int namespace_disable_safe(struct ndctl_namespace *ndns) {
	LOOK_UP(ndctl_namespace_disable_safe);
	return found ? found(ndns) : -ENOSYS;
}

static inline unsigned long region_align(struct ndctl_region *region) {
	LOOK_UP(ndctl_region_get_align);
	return found ? found(region) : ULONG_MAX;
}

static inline unsigned long long region_max_extent(struct ndctl_region *region) {
	LOOK_UP(ndctl_region_get_max_available_extent);
	return found ? found(region) : ULLONG_MAX;
}

static inline int region_target_node(struct ndctl_region *region) {
	LOOK_UP(ndctl_region_get_target_node);
	return found ? found(region) : NUMA_NO_ATTR;
}

static inline int namespace_target_node(struct ndctl_namespace *ndns) {
	LOOK_UP(ndctl_namespace_get_target_node);
	return found ? found(ndns) : NUMA_NO_ATTR;
}

static inline long long dimm_dirty_shutdowns(struct ndctl_dimm *dimm) {
	LOOK_UP(ndctl_dimm_get_dirty_shutdown);
	return found ? found(dimm) : -ENOTSUP;
}
