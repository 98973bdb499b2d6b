/*
 * The item of `gimlet agent --service`: NAME=TARGET[,KEY=VALUE...], and what else is said about a
 * service's backend. Private to config/. Start-up, one thread.
 */
#ifndef GM_CONFIG_AGENT_SERVICE_H
#define GM_CONFIG_AGENT_SERVICE_H

#include "config/config.h"

/* Checks for option tables: NULL, or what is wrong. */
const char *gm_agent_check_target(const char *value);
const char *gm_agent_check_service(const char *value);
const char *gm_agent_check_header(const char *value);
const char *gm_agent_check_health_path(const char *value);
const char *gm_agent_check_health_codes(const char *value);

/* `host:port` was enough for version 0.0.x: it is completed. NULL when memory is out. */
const char *gm_agent_full_target(struct gm_arena *arena, const char *text, size_t len);

/* Takes an item that has been checked; what it does not say about health checks is 0 or NULL.
 * 0 or -ENOMEM. */
__attribute__((warn_unused_result)) int
gm_agent_take_service(struct gm_arena *arena, const char *item, struct gm_agent_service *service);
/* Completes what a service says itself by what is said for all: `all` (raw --backend-header items
 * that have been checked) and `health`. 0, -ENOMEM, or -E2BIG: too many fields. */
__attribute__((warn_unused_result)) int gm_agent_inherit(struct gm_arena *arena,
                                                         const struct gm_option_list *all,
                                                         const struct gm_agent_health *health,
                                                         struct gm_agent_service *service);

#endif
