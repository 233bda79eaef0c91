// The functions of libdaxctl that this package calls: result, name, parameters, arguments.
#define FUNCTIONS(X) \
	X(int, daxctl_dev_disable, (struct daxctl_dev *dev), (dev)) \
	X(int, daxctl_dev_enable_devdax, (struct daxctl_dev *dev), (dev)) \
	X(int, daxctl_dev_enable_ram, (struct daxctl_dev *dev), (dev)) \
	X(const char *, daxctl_dev_get_devname, (struct daxctl_dev *dev), (dev)) \
	X(struct daxctl_dev *, daxctl_dev_get_first, (struct daxctl_region *region), (region)) \
	X(struct daxctl_memory *, daxctl_dev_get_memory, (struct daxctl_dev *dev), (dev)) \
	X(struct daxctl_dev *, daxctl_dev_get_next, (struct daxctl_dev *dev), (dev)) \
	X(struct daxctl_region *, daxctl_dev_get_region, (struct daxctl_dev *dev), (dev)) \
	X(unsigned long long, daxctl_dev_get_resource, (struct daxctl_dev *dev), (dev)) \
	X(unsigned long long, daxctl_dev_get_size, (struct daxctl_dev *dev), (dev)) \
	X(int, daxctl_dev_get_target_node, (struct daxctl_dev *dev), (dev)) \
	X(int, daxctl_dev_is_enabled, (struct daxctl_dev *dev), (dev)) \
	X(int, daxctl_memory_is_online, (struct daxctl_memory *mem), (mem)) \
	X(int, daxctl_memory_num_sections, (struct daxctl_memory *mem), (mem)) \
	X(int, daxctl_memory_offline, (struct daxctl_memory *mem), (mem)) \
	X(int, daxctl_memory_online, (struct daxctl_memory *mem), (mem)) \
	X(int, daxctl_new, (struct daxctl_ctx **ctx), (ctx)) \
	X(struct daxctl_region *, daxctl_region_get_first, (struct daxctl_ctx *ctx), (ctx)) \
	X(int, daxctl_region_get_id, (struct daxctl_region *region), (region)) \
	X(struct daxctl_region *, daxctl_region_get_next, (struct daxctl_region *region), (region)) \
	X(void, daxctl_unref, (struct daxctl_ctx *ctx), (ctx))
