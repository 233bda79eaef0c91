// The functions of libndctl that this package calls: result, name, parameters, arguments.
#define FUNCTIONS(X) \
	X(int, ndctl_btt_delete, (struct ndctl_btt *btt), (btt)) \
	X(int, ndctl_btt_enable, (struct ndctl_btt *btt), (btt)) \
	X(const char *, ndctl_btt_get_block_device, (struct ndctl_btt *btt), (btt)) \
	X(unsigned int, ndctl_btt_get_sector_size, (struct ndctl_btt *btt), (btt)) \
	X(unsigned long long, ndctl_btt_get_size, (struct ndctl_btt *btt), (btt)) \
	X(int, ndctl_btt_set_namespace, (struct ndctl_btt *btt, struct ndctl_namespace *ndns), (btt, ndns)) \
	X(int, ndctl_btt_set_sector_size, (struct ndctl_btt *btt, unsigned int sector_size), (btt, sector_size)) \
	X(int, ndctl_btt_set_uuid, (struct ndctl_btt *btt, uuid_t uu), (btt, uu)) \
	X(const char *, ndctl_bus_get_devname, (struct ndctl_bus *bus), (bus)) \
	X(struct ndctl_bus *, ndctl_bus_get_first, (struct ndctl_ctx *ctx), (ctx)) \
	X(struct ndctl_bus *, ndctl_bus_get_next, (struct ndctl_bus *bus), (bus)) \
	X(const char *, ndctl_bus_get_provider, (struct ndctl_bus *bus), (bus)) \
	X(int, ndctl_bus_get_scrub_state, (struct ndctl_bus *bus), (bus)) \
	X(unsigned int, ndctl_cmd_cfg_size_get_size, (struct ndctl_cmd *cfg_size), (cfg_size)) \
	X(unsigned int, ndctl_cmd_smart_get_alarm_flags, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_ctrl_temperature, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_flags, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_health, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_life_used, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_media_temperature, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_shutdown_count, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_shutdown_state, (struct ndctl_cmd *cmd), (cmd)) \
	X(unsigned int, ndctl_cmd_smart_get_spares, (struct ndctl_cmd *cmd), (cmd)) \
	X(int, ndctl_cmd_submit, (struct ndctl_cmd *cmd), (cmd)) \
	X(int, ndctl_cmd_submit_xlat, (struct ndctl_cmd *cmd), (cmd)) \
	X(int, ndctl_dax_delete, (struct ndctl_dax *dax), (dax)) \
	X(int, ndctl_dax_enable, (struct ndctl_dax *dax), (dax)) \
	X(unsigned long, ndctl_dax_get_align, (struct ndctl_dax *dax), (dax)) \
	X(enum ndctl_pfn_loc, ndctl_dax_get_location, (struct ndctl_dax *dax), (dax)) \
	X(unsigned long long, ndctl_dax_get_size, (struct ndctl_dax *dax), (dax)) \
	X(int, ndctl_dax_has_align, (struct ndctl_dax *dax), (dax)) \
	X(int, ndctl_dax_set_align, (struct ndctl_dax *dax, unsigned long align), (dax, align)) \
	X(int, ndctl_dax_set_location, (struct ndctl_dax *dax, enum ndctl_pfn_loc loc), (dax, loc)) \
	X(int, ndctl_dax_set_namespace, (struct ndctl_dax *dax, struct ndctl_namespace *ndns), (dax, ndns)) \
	X(int, ndctl_dax_set_uuid, (struct ndctl_dax *dax, uuid_t uu), (dax, uu)) \
	X(struct ndctl_cmd *, ndctl_dimm_cmd_new_cfg_size, (struct ndctl_dimm *dimm), (dimm)) \
	X(struct ndctl_cmd *, ndctl_dimm_cmd_new_smart, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_disable, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_enable, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_failed_arm, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_failed_flush, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_failed_map, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_failed_restore, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_failed_save, (struct ndctl_dimm *dimm), (dimm)) \
	X(const char *, ndctl_dimm_get_devname, (struct ndctl_dimm *dimm), (dimm)) \
	X(struct ndctl_dimm *, ndctl_dimm_get_first, (struct ndctl_bus *bus), (bus)) \
	X(unsigned int, ndctl_dimm_get_handle, (struct ndctl_dimm *dimm), (dimm)) \
	X(struct ndctl_dimm *, ndctl_dimm_get_next, (struct ndctl_dimm *dimm), (dimm)) \
	X(unsigned short, ndctl_dimm_get_phys_id, (struct ndctl_dimm *dimm), (dimm)) \
	X(enum ndctl_security_state, ndctl_dimm_get_security, (struct ndctl_dimm *dimm), (dimm)) \
	X(const char *, ndctl_dimm_get_unique_id, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_init_labels, (struct ndctl_dimm *dimm, enum ndctl_namespace_version v), (dimm, v)) \
	X(int, ndctl_dimm_is_active, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_is_cmd_supported, (struct ndctl_dimm *dimm, int cmd), (dimm, cmd)) \
	X(int, ndctl_dimm_is_enabled, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_locked, (struct ndctl_dimm *dimm), (dimm)) \
	X(struct ndctl_cmd *, ndctl_dimm_read_label_index, (struct ndctl_dimm *dimm), (dimm)) \
	X(int, ndctl_dimm_smart_pending, (struct ndctl_dimm *dimm), (dimm)) \
	X(unsigned long long, ndctl_interleave_set_get_cookie, (struct ndctl_interleave_set *iset), (iset)) \
	X(struct ndctl_dimm *, ndctl_mapping_get_dimm, (struct ndctl_mapping *mapping), (mapping)) \
	X(struct ndctl_mapping *, ndctl_mapping_get_first, (struct ndctl_region *region), (region)) \
	X(unsigned long long, ndctl_mapping_get_length, (struct ndctl_mapping *mapping), (mapping)) \
	X(struct ndctl_mapping *, ndctl_mapping_get_next, (struct ndctl_mapping *mapping), (mapping)) \
	X(unsigned long long, ndctl_mapping_get_offset, (struct ndctl_mapping *mapping), (mapping)) \
	X(int, ndctl_mapping_get_position, (struct ndctl_mapping *mapping), (mapping)) \
	X(int, ndctl_namespace_delete, (struct ndctl_namespace *ndns), (ndns)) \
	X(int, ndctl_namespace_enable, (struct ndctl_namespace *ndns), (ndns)) \
	X(const char *, ndctl_namespace_get_alt_name, (struct ndctl_namespace *ndns), (ndns)) \
	X(const char *, ndctl_namespace_get_block_device, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct ndctl_btt *, ndctl_namespace_get_btt, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct ndctl_dax *, ndctl_namespace_get_dax, (struct ndctl_namespace *ndns), (ndns)) \
	X(const char *, ndctl_namespace_get_devname, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct ndctl_namespace *, ndctl_namespace_get_first, (struct ndctl_region *region), (region)) \
	X(struct badblock *, ndctl_namespace_get_first_badblock, (struct ndctl_namespace *ndns), (ndns)) \
	X(unsigned int, ndctl_namespace_get_id, (struct ndctl_namespace *ndns), (ndns)) \
	X(enum ndctl_namespace_mode, ndctl_namespace_get_mode, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct ndctl_namespace *, ndctl_namespace_get_next, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct badblock *, ndctl_namespace_get_next_badblock, (struct ndctl_namespace *ndns), (ndns)) \
	X(int, ndctl_namespace_get_num_sector_sizes, (struct ndctl_namespace *ndns), (ndns)) \
	X(int, ndctl_namespace_get_numa_node, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct ndctl_pfn *, ndctl_namespace_get_pfn, (struct ndctl_namespace *ndns), (ndns)) \
	X(struct ndctl_region *, ndctl_namespace_get_region, (struct ndctl_namespace *ndns), (ndns)) \
	X(unsigned int, ndctl_namespace_get_sector_size, (struct ndctl_namespace *ndns), (ndns)) \
	X(unsigned long long, ndctl_namespace_get_size, (struct ndctl_namespace *ndns), (ndns)) \
	X(unsigned int, ndctl_namespace_get_type, (struct ndctl_namespace *ndns), (ndns)) \
	X(bool, ndctl_namespace_is_active, (struct ndctl_namespace *ndns), (ndns)) \
	X(int, ndctl_namespace_is_configuration_idle, (struct ndctl_namespace *ndns), (ndns)) \
	X(int, ndctl_namespace_set_alt_name, (struct ndctl_namespace *ndns, const char *alt_name), (ndns, alt_name)) \
	X(int, ndctl_namespace_set_enforce_mode, (struct ndctl_namespace *ndns, enum ndctl_namespace_mode mode), (ndns, mode)) \
	X(int, ndctl_namespace_set_raw_mode, (struct ndctl_namespace *ndns, int raw_mode), (ndns, raw_mode)) \
	X(int, ndctl_namespace_set_sector_size, (struct ndctl_namespace *ndns, unsigned int sector_size), (ndns, sector_size)) \
	X(int, ndctl_namespace_set_size, (struct ndctl_namespace *ndns, unsigned long long size), (ndns, size)) \
	X(int, ndctl_namespace_set_uuid, (struct ndctl_namespace *ndns, uuid_t uu), (ndns, uu)) \
	X(int, ndctl_new, (struct ndctl_ctx **ctx), (ctx)) \
	X(int, ndctl_pfn_delete, (struct ndctl_pfn *pfn), (pfn)) \
	X(int, ndctl_pfn_enable, (struct ndctl_pfn *pfn), (pfn)) \
	X(unsigned long, ndctl_pfn_get_align, (struct ndctl_pfn *pfn), (pfn)) \
	X(const char *, ndctl_pfn_get_block_device, (struct ndctl_pfn *pfn), (pfn)) \
	X(enum ndctl_pfn_loc, ndctl_pfn_get_location, (struct ndctl_pfn *pfn), (pfn)) \
	X(unsigned long long, ndctl_pfn_get_size, (struct ndctl_pfn *pfn), (pfn)) \
	X(int, ndctl_pfn_has_align, (struct ndctl_pfn *pfn), (pfn)) \
	X(int, ndctl_pfn_set_align, (struct ndctl_pfn *pfn, unsigned long align), (pfn, align)) \
	X(int, ndctl_pfn_set_location, (struct ndctl_pfn *pfn, enum ndctl_pfn_loc loc), (pfn, loc)) \
	X(int, ndctl_pfn_set_namespace, (struct ndctl_pfn *pfn, struct ndctl_namespace *ndns), (pfn, ndns)) \
	X(int, ndctl_pfn_set_uuid, (struct ndctl_pfn *pfn, uuid_t uu), (pfn, uu)) \
	X(int, ndctl_region_disable_preserve, (struct ndctl_region *region), (region)) \
	X(int, ndctl_region_enable, (struct ndctl_region *region), (region)) \
	X(unsigned long long, ndctl_region_get_available_size, (struct ndctl_region *region), (region)) \
	X(struct ndctl_btt *, ndctl_region_get_btt_seed, (struct ndctl_region *region), (region)) \
	X(struct ndctl_dax *, ndctl_region_get_dax_seed, (struct ndctl_region *region), (region)) \
	X(const char *, ndctl_region_get_devname, (struct ndctl_region *region), (region)) \
	X(struct ndctl_region *, ndctl_region_get_first, (struct ndctl_bus *bus), (bus)) \
	X(struct badblock *, ndctl_region_get_first_badblock, (struct ndctl_region *region), (region)) \
	X(struct ndctl_interleave_set *, ndctl_region_get_interleave_set, (struct ndctl_region *region), (region)) \
	X(unsigned int, ndctl_region_get_interleave_ways, (struct ndctl_region *region), (region)) \
	X(struct ndctl_namespace *, ndctl_region_get_namespace_seed, (struct ndctl_region *region), (region)) \
	X(struct ndctl_region *, ndctl_region_get_next, (struct ndctl_region *region), (region)) \
	X(struct badblock *, ndctl_region_get_next_badblock, (struct ndctl_region *region), (region)) \
	X(unsigned int, ndctl_region_get_nstype, (struct ndctl_region *region), (region)) \
	X(int, ndctl_region_get_numa_node, (struct ndctl_region *region), (region)) \
	X(enum ndctl_persistence_domain, ndctl_region_get_persistence_domain, (struct ndctl_region *region), (region)) \
	X(struct ndctl_pfn *, ndctl_region_get_pfn_seed, (struct ndctl_region *region), (region)) \
	X(int, ndctl_region_get_ro, (struct ndctl_region *region), (region)) \
	X(unsigned long long, ndctl_region_get_size, (struct ndctl_region *region), (region)) \
	X(const char *, ndctl_region_get_type_name, (struct ndctl_region *region), (region)) \
	X(int, ndctl_region_has_numa, (struct ndctl_region *region), (region)) \
	X(int, ndctl_region_is_enabled, (struct ndctl_region *region), (region)) \
	X(struct ndctl_ctx *, ndctl_unref, (struct ndctl_ctx *ctx), (ctx)) \
	X(void, ndctl_cmd_unref, (struct ndctl_cmd *cmd), (cmd)) \
	X(void, ndctl_namespace_get_uuid, (struct ndctl_namespace *ndns, uuid_t uu), (ndns, uu)) \
	X(void, ndctl_pfn_get_uuid, (struct ndctl_pfn *pfn, uuid_t uu), (pfn, uu))
