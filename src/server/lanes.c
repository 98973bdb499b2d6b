/* The table of lanes. Any thread, under one mutex. Invariant: an agent's row exists exactly while
 * one of its lanes is held. */
#include "server/lanes.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct row {
    struct row *next;
    char *subject, *instance;
    uint16_t holds[GM_LANES_MAX]; /* links per lane: two for a moment, while a dead one is being
                                     replaced */
    uint32_t held;                /* sum of holds */
};

struct gm_lanes {
    pthread_mutex_t lock;
    struct row *rows; /* agents number in the thousands at most, and come rarely */
    uint32_t lane_count;
};

struct gm_lanes *gm_lanes_new(uint32_t lane_count)
{
    struct gm_lanes *lanes = calloc(1, sizeof *lanes);
    if (lanes == NULL)
        return NULL;
    pthread_mutex_init(&lanes->lock, NULL);
    lanes->lane_count = lane_count < GM_LANES_MAX ? lane_count : GM_LANES_MAX;
    return lanes;
}

static void row_free(struct row *row)
{
    free(row->subject);
    free(row->instance);
    free(row);
}

void gm_lanes_free(struct gm_lanes *lanes)
{
    if (lanes == NULL)
        return;
    while (lanes->rows != NULL) {
        struct row *row = lanes->rows;
        lanes->rows = row->next;
        row_free(row);
    }
    pthread_mutex_destroy(&lanes->lock);
    free(lanes);
}

static struct row *row_find(struct gm_lanes *lanes, const char *subject, const char *instance)
{
    struct row *row = lanes->rows;
    while (row != NULL &&
           (strcmp(row->instance, instance) != 0 || strcmp(row->subject, subject) != 0))
        row = row->next;
    return row;
}

static struct row *row_make(struct gm_lanes *lanes, const char *subject, const char *instance)
{
    struct row *row = row_find(lanes, subject, instance);
    if (row != NULL)
        return row;
    row = calloc(1, sizeof *row);
    if (row == NULL)
        return NULL;
    row->subject = strdup(subject);
    row->instance = strdup(instance);
    if (row->subject == NULL || row->instance == NULL) {
        row_free(row);
        return NULL;
    }
    row->next = lanes->rows;
    lanes->rows = row;
    return row;
}

int gm_lanes_take(struct gm_lanes *lanes, const char *subject, const char *instance, int wish)
{
    pthread_mutex_lock(&lanes->lock);
    int lane = -GM_E_NOMEM;
    struct row *row = row_make(lanes, subject, instance);
    if (row != NULL) {
        lane = 0;
        if (wish >= 0 && (uint32_t)wish < lanes->lane_count)
            lane = wish;
        else
            while ((uint32_t)lane < lanes->lane_count && row->holds[lane] > 0)
                lane++;
        if ((uint32_t)lane < lanes->lane_count) {
            row->holds[lane]++;
            row->held++;
        }
    }
    pthread_mutex_unlock(&lanes->lock);
    return lane;
}

void gm_lanes_give(struct gm_lanes *lanes, const char *subject, const char *instance, uint32_t lane)
{
    if (lane >= lanes->lane_count)
        return;
    pthread_mutex_lock(&lanes->lock);
    struct row *row = row_find(lanes, subject, instance);
    if (row != NULL && row->holds[lane] > 0) {
        row->holds[lane]--;
        row->held--;
    }
    if (row != NULL && row->held == 0) {
        struct row **at = &lanes->rows;
        while (*at != row)
            at = &(*at)->next;
        *at = row->next;
        row_free(row);
    }
    pthread_mutex_unlock(&lanes->lock);
}
