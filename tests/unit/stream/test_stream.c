/* The stream's state machine: the table of PROTOCOL.md section 4, event by event. */
#include <criterion/criterion.h>
#include <string.h>

#include "stream/stream.h"

static struct gm_stream server_side(void)
{
    struct gm_stream stream = {0};
    struct gm_stream_begin begin = {GM_DIR_HEAD, GM_DIR_BODY, 4096, 65536};
    gm_stream_begin(&stream, &begin);
    return stream;
}
static struct gm_stream agent_side(void)
{
    struct gm_stream stream = {.flags = GM_STREAM_SEEN | GM_STREAM_DETACHED};
    struct gm_stream_begin begin = {GM_DIR_BODY, GM_DIR_HEAD, 65536, 4096};
    gm_stream_begin(&stream, &begin);
    cr_assert_eq(stream.flags, GM_STREAM_SEEN);
    return stream;
}

#define STEP(event, verdict)                                                                       \
    cr_assert_eq(gm_stream_step(&s, GM_STREAM_##event), GM_STREAM_##verdict, #event)

Test(stream, an_ordinary_exchange_ends_once_each_way)
{
    struct gm_stream s = server_side();
    cr_assert_eq(gm_stream_room(&s), 4096);
    cr_assert_eq(gm_stream_queued(&s), 0);
    STEP(OUT_DATA, ACCEPT);
    STEP(IN_INTERIM, ACCEPT);
    STEP(OUT_END, ACCEPT);
    STEP(OUT_END, MISUSE);
    STEP(OUT_DATA, MISUSE);
    STEP(IN_HEAD, ACCEPT);
    STEP(SENT_END, ACCEPT);
    STEP(SENT_END, MISUSE);
    STEP(IN_DATA, ACCEPT);
    STEP(IN_TRAILERS, ACCEPT);
    cr_assert(!gm_stream_done(&s));
    STEP(IN_END, ACCEPT);
    cr_assert(gm_stream_done(&s) && gm_stream_in_use(&s));
}

Test(stream, the_answer_has_one_final_head_before_its_body)
{
    struct gm_stream s = server_side();
    STEP(IN_DATA, VIOLATE);
    STEP(IN_TRAILERS, VIOLATE);
    STEP(IN_INTERIM, ACCEPT);
    STEP(IN_HEAD, ACCEPT);
    STEP(IN_HEAD, VIOLATE);
    STEP(IN_INTERIM, VIOLATE);
    s = server_side();
    STEP(IN_END, VIOLATE); /* no head at all: but it was the final frame */
    cr_assert_eq(s.in, GM_DIR_ENDED);
    s = server_side();
    STEP(IN_HEAD, ACCEPT);
    STEP(IN_TRAILERS, ACCEPT);
    STEP(IN_DATA, VIOLATE);
    STEP(IN_TRAILERS, VIOLATE);
    STEP(IN_END, ACCEPT);
}

Test(stream, nothing_follows_the_final_frame_but_stop_and_credit)
{
    struct gm_stream s = agent_side();
    STEP(IN_END, ACCEPT);
    STEP(IN_END, FATAL);
    STEP(IN_DATA, FATAL);
    STEP(IN_TRAILERS, FATAL);
    STEP(IN_HEAD, FATAL);
    STEP(IN_RESET, FATAL);
    STEP(IN_CREDIT, ACCEPT);
    STEP(IN_STOP, ACCEPT);
    STEP(IN_STOP, IGNORE);
    STEP(IN_CREDIT, IGNORE);
}

Test(stream, reset_ends_both_and_is_answered_once)
{
    struct gm_stream s = agent_side();
    STEP(IN_RESET, ACCEPT);
    cr_assert_eq(s.out, GM_DIR_RESETTING);
    STEP(OUT_HEAD, IGNORE);
    STEP(OUT_DATA, IGNORE);
    STEP(OUT_END, IGNORE);
    STEP(OUT_RESET, IGNORE);
    STEP(OUT_STOP, IGNORE);
    STEP(OUT_GRANT, IGNORE);
    STEP(IN_STOP, IGNORE);
    STEP(IN_CREDIT, IGNORE);
    STEP(SENT_END, MISUSE);
    STEP(SENT_RESET, ACCEPT);
    STEP(SENT_RESET, MISUSE);
    cr_assert(gm_stream_done(&s));

    s = agent_side(); /* crossing */
    STEP(OUT_RESET, ACCEPT);
    STEP(IN_DATA, IGNORE);
    STEP(IN_TRAILERS, IGNORE);
    STEP(IN_RESET, IGNORE);
    cr_assert(!gm_stream_done(&s));
    STEP(SENT_RESET, ACCEPT);
    cr_assert(gm_stream_done(&s));

    s = server_side(); /* answered by END */
    STEP(OUT_RESET, ACCEPT);
    STEP(SENT_RESET, ACCEPT);
    STEP(IN_HEAD, IGNORE);
    STEP(IN_INTERIM, IGNORE);
    STEP(IN_END, IGNORE);
    cr_assert(gm_stream_done(&s));

    s = server_side(); /* after our own END: no RESET may follow */
    STEP(OUT_END, ACCEPT);
    STEP(SENT_END, ACCEPT);
    STEP(OUT_RESET, ACCEPT);
    cr_assert_eq(s.out, GM_DIR_ENDED);
    STEP(IN_RESET, IGNORE);
    cr_assert(gm_stream_done(&s));
}

Test(stream, stop_concerns_one_direction)
{
    struct gm_stream s = agent_side();
    STEP(IN_STOP, ACCEPT);
    STEP(IN_DATA, ACCEPT);
    STEP(OUT_INTERIM, ACCEPT);
    STEP(OUT_HEAD, ACCEPT);
    STEP(OUT_HEAD, MISUSE);
    STEP(OUT_INTERIM, MISUSE);
    STEP(OUT_DATA, IGNORE);
    STEP(OUT_END, ACCEPT);

    s = agent_side();
    STEP(OUT_DATA, MISUSE);
    STEP(OUT_END, MISUSE);
    STEP(IN_STOP, ACCEPT);
    STEP(OUT_END, ACCEPT); /* headless: the peer had asked for it */

    s = server_side();
    STEP(OUT_GRANT, ACCEPT);
    STEP(OUT_STOP, ACCEPT);
    STEP(OUT_STOP, IGNORE);
    STEP(OUT_GRANT, IGNORE);
    STEP(IN_HEAD, ACCEPT);
    STEP(IN_DATA, IGNORE);
    STEP(IN_TRAILERS, IGNORE);
    STEP(IN_END, ACCEPT);
    s = server_side();
    STEP(OUT_STOP, ACCEPT);
    STEP(IN_END, ACCEPT);
}

/* No sequence of events leads out of a final state, or ends a direction twice. */
Test(stream, finals_are_final_whatever_happens)
{
    uint32_t random = 99;
    for (int run = 0; run < 20000; run++) {
        struct gm_stream s = run & 1 ? server_side() : agent_side();
        for (int i = 0; i < 40; i++) {
            uint8_t in = s.in, out = s.out;
            random = random * 1664525u + 1013904223u;
            enum gm_stream_event event =
                (enum gm_stream_event)((random >> 8) % GM_STREAM_EVENT_COUNT);
            enum gm_stream_verdict verdict = gm_stream_step(&s, event);
            cr_assert(s.in >= in && s.out >= out);
            cr_assert(in < GM_DIR_ENDED || s.in == in);
            cr_assert(out < GM_DIR_ENDED || s.out == out);
            cr_assert(event >= GM_STREAM_OUT_INTERIM
                          ? verdict < GM_STREAM_VIOLATE || verdict == GM_STREAM_MISUSE
                          : verdict < GM_STREAM_MISUSE);
        }
    }
    struct gm_stream s = server_side();
    cr_assert_eq(gm_stream_step(&s, GM_STREAM_EVENT_COUNT), GM_STREAM_MISUSE);
}
