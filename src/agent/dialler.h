/* The dialler of a service: keeps a link for each lane of every server behind the agent's address,
 * as far as it can find them, and dials again when one is lost. Which and when is the mesh's to say
 * (agent/mesh.h).
 *
 * A dialler runs on one ring; the links it makes live on others (lane k on ring k mod N, counted
 * from the service's own). Dialler and link talk by mail. */
#ifndef GM_AGENT_DIALLER_H
#define GM_AGENT_DIALLER_H

#include "agent/context.h"
#include "agent/report.h"

struct gm_dialler;
struct gm_dial;

/* One dial and the link it becomes. Made by the dialler, belongs to the link's ring from
 * `mail_begin` to `mail_closed`, then to the dialler again, which frees it. */
struct gm_agent_link {
    struct gm_link link;
    struct gm_agent_ring *ctx; /* of the link */
    struct gm_agent_service_info *service;
    struct gm_list node; /* in ctx->links */
    struct gm_mail mail_begin, mail_up, mail_drain, mail_leave, mail_hear, mail_down, mail_closed;
    union gm_addr addr;
    char token[GM_CONTROL_FILE_MAX];
    uint32_t token_len;
    int wish;                               /* lane to take over; negative: none */
    char wish_server[GM_LINK_INSTANCE_MAX]; /* of that server */
    struct gm_timer deadline;               /* the link must be up by then */
    struct gm_task end_task; /* a surplus link ends once its mux is done with the greeting */
    uint64_t up_ns;          /* when it came up; 0: it never did */
    uint64_t told_ns;        /* when the server was told of the backend's health last */
    bool told_ready;         /* and what */
    bool leaving;            /* the server drains, or this link */
    bool leave_told;         /* and has said so in a note */
    /* Servers that there are, by a note on its way to the dialler; 0: none is on its way. Writers:
     * the link's ring, from 0 (release), and the dialler's, back to 0 (acquire, release): the mail
     * is the one's or the other's. */
    _Atomic uint32_t heard;
    struct gm_agent_figures figures;
    /* For the dialler, when the link goes down. */
    char cause[512];
    uint64_t down_ns;
    bool surplus;
    /* The dialler's only. */
    struct gm_dial *dial; /* NULL: it has succeeded or failed */
    struct gm_list owned; /* all that it has made */
    bool counted;         /* in the mesh: the link that holds its lane */
};

struct gm_dialler *gm_dialler_new(struct gm_agent_shared *shared, uint32_t service_index);
/* After the rings have ended. */
void gm_dialler_free(struct gm_dialler *dialler);
/* On the dialler's ring. */
void gm_dialler_start(struct gm_dialler *dialler);
/* On the dialler's ring: dials no more. */
void gm_dialler_stop(struct gm_dialler *dialler);
/* On the dialler's ring: something that may have been the cause has changed. Who waits for his next
 * dial waits as if he had not failed yet. */
void gm_dialler_retry(struct gm_dialler *dialler);
uint32_t gm_dialler_ring(const struct gm_dialler *dialler);

/* ---- links.c ---- */

/* On the link's ring (delivered by mail_begin). */
void gm_agent_link_begin(struct gm_mail *mail);
/* On the link's ring: its server has said that it drains. */
void gm_agent_link_leaves(struct gm_agent_link *link);
/* On the link's ring: its server says that there are so many servers at least (not 0). */
void gm_agent_link_hears(struct gm_agent_link *link, uint32_t at_least);
/* Links of this ring: all drain; all end now; all are left as they are, at the ring's end. */
void gm_agent_links_drain(struct gm_agent_ring *ctx);
void gm_agent_links_end(struct gm_agent_ring *ctx);
void gm_agent_links_forget(struct gm_agent_ring *ctx);
/* A service's backend has become healthy, or no longer is: links of this ring whose server does not
 * know send it a note. */
void gm_agent_links_tell(struct gm_agent_ring *ctx);
/* For ctx->tell_timer. */
void gm_agent_links_tell_again(struct gm_timer *timer);

/* ---- dialler.c, delivered by the link's mail on the dialler's ring ---- */

void gm_dialler_link_up(struct gm_mail *mail);
void gm_dialler_link_drains(struct gm_mail *mail);
void gm_dialler_link_leaves(struct gm_mail *mail);
void gm_dialler_link_hears(struct gm_mail *mail);
void gm_dialler_link_down(struct gm_mail *mail);
void gm_dialler_link_closed(struct gm_mail *mail);

#endif
