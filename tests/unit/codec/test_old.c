/* The dialect of 0.0.x by example, as a server speaks it: messages in as an agent writes them, byte
 * for byte; frames out; and what the owner is told. */
#include "old_world.h"

#define START_GET "S GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
#define OK_TEXT   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

/* --- Server. --- */

Test(old_server, a_request_and_its_answer_in_any_pieces)
{
    for (unsigned pieces = 0; pieces < 5; pieces++) {
        start(GM_MUX_SERVER);
        step = (const uint32_t[]){1000000, 1, 2, 40, 43}[pieces];
        (void)open_get();
        cr_assert_str_eq(pull(), START_GET);
        cr_assert_eq(strlen(out_id), 36);
        cr_assert(out_id[8] == '-' && out_id[14] == '4' && strchr("89ab", out_id[19]) != NULL);
        char id[80];
        keep_id(id);
        cr_assert_str_eq(pull(), "E ");
        cr_assert_str_eq(out_id, id);
        cr_assert(!gm_mux_ready(&mux));
        feed_text(1, id, OK_TEXT "bytes of no meaning");
        feed_text(2, id, "");
        EXPECT_STORY("head 200 body;");
        feed_text(2, id, "hello");
        cr_assert_not_null(strstr(story, "data "));
        story[0] = 0;
        feed_text(3, id, "");
        EXPECT_STORY("end;closed;");
        cr_assert_str_eq(pull(), "C ");
        cr_assert_str_eq(out_id, id);
        cr_assert_str_eq(pull(), "");
        feed_text(2, id, "late");
        feed_text(3, id, "");
        EXPECT_STORY("");
        cr_assert_eq(mux.stats.late_frames, 2);
        finish();
    }
}

Test(old_server, a_counted_upload)
{
    struct gm_stream *stream;
    start(GM_MUX_SERVER);
    cr_assert_eq(open_with(request_block("POST", 20000, GM_HEAD_FLAG_BODY), false, &stream), 0);
    send(stream, 20000);
    gm_stream_end(stream);
    cr_assert_not_null(strstr(pull(), "Content-Length: 20000\r\nConnection: close\r\n\r\n"));
    EXPECT_STORY("head 100;"); /* nobody else says it */
    cr_assert(!gm_mux_old_uploading(&mux));
    cr_assert_eq(strlen(pull()), 2 + 16384);
    cr_assert(gm_mux_old_uploading(&mux));
    cr_assert_eq(strlen(pull()), 2 + 3616);
    cr_assert_str_eq(pull(), "E ");
    cr_assert_str_eq(pull(), "");
    EXPECT_STORY("pulled 16384;pulled 3616;");
    gm_stream_reset(stream, GM_REASON_TIMEOUT, 0);
    cr_assert_str_eq(pull(), "C ");
    EXPECT_STORY("closed;");
    cr_assert(!gm_mux_old_uploading(&mux));
    finish();
}

Test(old_server, an_upload_in_chunks)
{
    struct gm_stream *stream;
    start(GM_MUX_SERVER);
    gm_slice head = request_block("POST", GM_HEAD_LENGTH_UNKNOWN, GM_HEAD_FLAG_BODY);
    cr_assert_eq(open_with(head, false, &stream), 0);
    cr_assert_not_null(strstr(pull(), "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"));
    send(stream, 5);
    cr_assert_str_eq(pull(), "D 0005\r\nxxxxx\r\n");
    EXPECT_STORY("head 100;pulled 5;credit 5;");
    send(stream, 300);
    send(stream, 4);
    const char *text = pull();
    cr_assert_eq(strlen(text), 2 + 6 + 304 + 2);
    cr_assert(memcmp(text, "D 0130\r\n", 8) == 0 && strcmp(text + 312, "\r\n") == 0);
    gm_stream_end(stream);
    cr_assert_str_eq(pull(), "D 0\r\n\r\n");
    cr_assert_str_eq(pull(), "E ");
    feed_text(1, out_id, "HTTP/1.1 204 No Content\r\n\r\n");
    feed_text(3, out_id, "");
    EXPECT_STORY("pulled 304;credit 304;head 204;end;closed;");
    cr_assert_str_eq(pull(), "C ");
    finish();
}

Test(old_server, trailers_follow_the_last_chunk)
{
    uint8_t block[64];
    struct gm_head_writer writer;
    struct gm_stream *stream;
    start(GM_MUX_SERVER);
    gm_slice head = request_block("POST", GM_HEAD_LENGTH_UNKNOWN, GM_HEAD_FLAG_BODY);
    cr_assert_eq(open_with(head, false, &stream), 0);
    send(stream, 1);
    gm_head_write_trailers(&writer, block, sizeof block);
    gm_head_write_field(&writer, &(struct gm_head_field){"X", "1", 1, 1});
    uint32_t len = (uint32_t)gm_head_write_finish(&writer);
    cr_assert_eq(gm_stream_trailers(stream, testbuf_block(GM_MUX_HEAD_ROOM, block, len, false)), 0);
    (void)pull();
    cr_assert_str_eq(pull(), "D 0001\r\nx\r\n");
    cr_assert_str_eq(pull(), "D 0\r\nX: 1\r\n\r\n");
    cr_assert_str_eq(pull(), "E ");
    cr_assert_str_eq(pull(), "");
    finish();
}

Test(old_server, the_answer_to_head_ends_with_its_head)
{
    struct gm_stream *stream;
    start(GM_MUX_SERVER);
    cr_assert_eq(open_with(request_block("HEAD", GM_HEAD_LENGTH_UNKNOWN, 0), true, &stream), 0);
    (void)pull(), (void)pull();
    feed_text(1, out_id, OK_TEXT);
    EXPECT_STORY("head 200 end;end;closed;");
    cr_assert_str_eq(pull(), "C ");
    feed_text(3, out_id, "Backend error: unexpected EOF");
    EXPECT_STORY("");
    finish();
}

Test(old_server, an_early_answer_stops_the_upload)
{
    struct gm_stream *stream;
    start(GM_MUX_SERVER);
    cr_assert_eq(open_with(request_block("POST", 100, GM_HEAD_FLAG_BODY), false, &stream), 0);
    (void)pull();
    send(stream, 50);
    feed_text(1, out_id, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    feed_text(3, out_id, "");
    EXPECT_STORY("head 100;head 413;stop;end;");
    cr_assert_str_eq(pull(), "C "); /* neither the body's rest nor END */
    EXPECT_STORY("closed;");
    finish();
}

Test(old_server, errors_of_an_agent)
{
    static const struct {
        const char *start, *error, *story;
    } cases[] = {
        {NULL, "no backend", "reset backend_closed 0;"},
        {NULL, "", "reset backend_protocol 0;"},
        {OK_TEXT, "cut", "head 200 body;reset backend_closed 0;"},
        {"HTTP/1.1 103 Early Hints\r\n\r\n", "", "head 103;reset backend_protocol 0;"},
        {"nonsense", "", "reset backend_protocol 100;"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start(GM_MUX_SERVER);
        (void)open_get();
        (void)pull(), (void)pull();
        if (cases[i].start != NULL)
            feed_text(1, out_id, cases[i].start);
        feed_text(3, out_id, cases[i].error);
        cr_assert_eq(strncmp(story, cases[i].story, strlen(cases[i].story)), 0, "%s", story);
        cr_assert_not_null(strstr(story, "closed;"), "%s", story);
        cr_assert_str_eq(pull(), "C ");
        cr_assert_str_eq(pull(), "");
        finish();
    }
}

Test(old_server, a_reset_before_start_has_left_says_nothing)
{
    start(GM_MUX_SERVER);
    struct gm_stream *stream = open_get();
    gm_stream_reset(stream, GM_REASON_CANCELLED, 0);
    cr_assert_str_eq(pull(), "");
    EXPECT_STORY("closed;");
    (void)open_get();
    cr_assert_str_eq(pull(), START_GET);
    finish();
}

Test(old_server, ids_of_a_slot_differ)
{
    char first[80];
    start(GM_MUX_SERVER);
    for (unsigned i = 0; i < 10; i++) {
        struct gm_stream *stream = open_get();
        cr_assert_str_eq(pull(), START_GET);
        if (i == 0)
            keep_id(first);
        else
            cr_assert_str_neq(first, out_id);
        cr_assert_str_eq(first + 8, out_id + 8);
        feed_text(1, first, OK_TEXT);
        feed_text(3, first, "");
        if (i == 0) {
            EXPECT_STORY("head 200 body;end;");
            cr_assert_str_eq(pull(), "C ");
        } else {
            EXPECT_STORY(""); /* it is of a request that has ended */
            gm_stream_reset(stream, GM_REASON_CANCELLED, 0);
            cr_assert_str_eq(pull(), "C ");
        }
        story[0] = 0;
    }
    finish();
}

Test(old_server, frames_that_mean_nothing)
{
    start(GM_MUX_SERVER);
    (void)open_get();
    (void)pull(), (void)pull();
    char id[80];
    keep_id(id);
    feed_bytes("\x02\xff\xff\xff\xff", 5);
    feed_bytes("\x02\xff\xff\xff\xfb", 5);
    feed_bytes("\x02\xff\xff\xff\xfb and much behind it", 24);
    feed_bytes("", 0);
    feed_bytes("\x01\x00", 2);
    feed_bytes("\x02\x00\x00\x00\x24short", 10);
    feed_text(9, id, "unknown");
    feed_text(4, id, "");
    feed_text(2, id, "before the head");
    feed_text(2, "", "x");
    feed_text(1, "other", OK_TEXT);
    EXPECT_STORY("");
    feed_text(1, id, OK_TEXT);
    feed_text(1, id, OK_TEXT);
    feed_text(3, id, "");
    EXPECT_STORY("head 200 body;end;closed;");
    finish();
}

Test(old_server, a_head_that_is_too_long)
{
    static char head[2000];
    start(GM_MUX_SERVER);
    (void)open_get();
    (void)pull(), (void)pull();
    memset(head, 'a', sizeof head - 1);
    step = 300;
    feed_text(1, out_id, head);
    EXPECT_STORY("reset backend_protocol 100;");
    cr_assert_str_eq(pull(), "C ");
    EXPECT_STORY("closed;");
    finish();
}

Test(old_server, no_memory)
{
    struct gm_stream *stream;
    start(GM_MUX_SERVER);
    refuse_gather = true;
    gm_slice head = request_block("GET", GM_HEAD_LENGTH_UNKNOWN, 0);
    cr_assert_eq(open_with(head, true, &stream), -GM_E_NOMEM);
    refuse_gather = false;
    cr_assert_eq(open_with(head, true, &stream), 0);
    (void)pull(), (void)pull();
    refuse_gather = true;
    feed_text(1, out_id, OK_TEXT);
    EXPECT_STORY("reset overload 100;");
    finish();
}

Test(old_server, what_cannot_be_opened)
{
    struct gm_stream *stream;
    uint8_t block[100];
    struct gm_head_writer writer;
    start(GM_MUX_SERVER);
    struct gm_head_request head = {.method = "GET",
                                   .method_len = 3,
                                   .target = "/",
                                   .target_len = 1,
                                   .authority = "h",
                                   .authority_len = 1,
                                   .content_length = GM_HEAD_LENGTH_UNKNOWN,
                                   .flags = GM_HEAD_FLAG_UPGRADE};
    gm_head_write_request(&writer, block, sizeof block, &head);
    gm_head_write_field(&writer, &(struct gm_head_field){"Upgrade", "x", 7, 1});
    int len = gm_head_write_finish(&writer);
    gm_slice upgrade = testbuf_block(GM_MUX_OPEN_ROOM, block, (uint32_t)len, false);
    cr_assert_eq(open_with(upgrade, false, &stream), -ENOTSUP);
    gm_slice_put(upgrade);
    for (unsigned i = 0; i < SLOTS; i++)
        (void)open_get();
    gm_slice more = request_block("GET", GM_HEAD_LENGTH_UNKNOWN, 0);
    cr_assert_eq(open_with(more, true, &stream), -GM_E_LIMIT);
    gm_mux_drain(&mux);
    cr_assert_eq(open_with(more, true, &stream), -GM_E_CLOSED);
    gm_slice_put(more);
    finish();
}

/* --- A window that is full. --- */

Test(old_server, what_a_window_does_not_take_waits)
{
    static uint8_t body[2500];
    start(GM_MUX_SERVER);
    struct gm_stream *stream = open_get();
    (void)pull(), (void)pull();
    char id[80];
    keep_id(id);
    feed_text(1, id, "HTTP/1.1 200 OK\r\n\r\n");
    story[0] = 0;
    hold_data = true;
    cr_assert(!feed(2, id, body, sizeof body));
    EXPECT_STORY("data 1000;");
    cr_assert(gm_mux_old_blocked(&mux) && !go_on());
    gm_stream_regrant(stream, 600);
    cr_assert(!gm_mux_old_blocked(&mux) && !go_on());
    gm_stream_regrant(stream, 1000);
    cr_assert(go_on());
    EXPECT_STORY("data 600;data 900;");
    feed_text(3, id, "");
    EXPECT_STORY("end;closed;");
    finish();
}

Test(old_server, a_stream_that_ends_blocks_nothing)
{
    static uint8_t body[2500];
    start(GM_MUX_SERVER);
    struct gm_stream *stream = open_get(), *other = open_get();
    char id[80], id_two[80];
    (void)pull();
    keep_id(id);
    cr_assert_str_eq(pull(), "E ");
    (void)pull();
    keep_id(id_two);
    cr_assert_str_eq(pull(), "E ");
    feed_text(1, id, "HTTP/1.1 200 OK\r\n\r\n");
    hold_data = true;
    cr_assert(!feed(2, id, body, sizeof body));
    gm_stream_reset(stream, GM_REASON_CANCELLED, 0);
    cr_assert(!gm_mux_old_blocked(&mux));
    cr_assert_str_eq(pull(), "C ");
    story[0] = 0;
    cr_assert(go_on());
    EXPECT_STORY("");
    feed_text(1, id_two, OK_TEXT);
    EXPECT_STORY("head 200 body;");
    (void)other;
    finish();
}
