/* The dialect of 0.0.x by example, as an agent speaks it: requests of a server in every form that
 * one gives them, answers, refusals, ends. */
#include "old_world.h"

#define GET_TEXT "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"

Test(old_agent, a_request_and_its_answer_in_any_pieces)
{
    for (unsigned pieces = 0; pieces < 4; pieces++) {
        start(GM_MUX_AGENT);
        step = (const uint32_t[]){1000000, 1, 3, 42}[pieces];
        feed_text(1, ID, GET_TEXT);
        EXPECT_STORY("");
        feed_text(3, ID, "");
        EXPECT_STORY("open GET /a end;end;");
        cr_assert_eq(gm_stream_head(last, response_block(103, 0), false), 0);
        cr_assert_str_eq(pull(), ""); /* 0.0.x would take it for the answer */
        cr_assert_eq(gm_stream_head(last, response_block(200, GM_HEAD_FLAG_BODY), false), 0);
        send(last, 5);
        gm_stream_end(last);
        cr_assert_str_eq(pull(), "S HTTP/1.1 200 OK\r\n\r\n");
        cr_assert_str_eq(out_id, ID);
        cr_assert_str_eq(pull(), "D xxxxx");
        cr_assert_str_eq(pull(), "E ");
        EXPECT_STORY("pulled 5;closed;");
        feed_text(4, ID, ""); /* as 0.0.x ends every request */
        EXPECT_STORY("");
        finish();
    }
}

Test(old_agent, a_counted_body_begins_at_once)
{
    start(GM_MUX_AGENT);
    feed_text(1, "7", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    EXPECT_STORY("open POST / body;");
    feed_text(2, "7", "hello");
    feed_text(3, "7", "");
    EXPECT_STORY("data 5;end;");
    finish();
}

Test(old_agent, a_body_that_was_stripped_of_its_framing)
{
    start(GM_MUX_AGENT);
    feed_text(1, ID, "POST / HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_STORY("");
    feed_text(2, ID, "raw");
    feed_text(3, ID, "");
    EXPECT_STORY("open POST / body;data 3;end;");
    finish();
}

Test(old_agent, requests_at_a_time)
{
    start(GM_MUX_AGENT);
    feed_text(1, ID, GET_TEXT);
    feed_text(1, ID, GET_TEXT); /* twice the same id: once */
    feed_text(1, ID_TWO, "PUT /b HTTP/1.1\r\nHost: h\r\n\r\n");
    feed_text(3, ID_TWO, "");
    EXPECT_STORY("open PUT /b end;end;");
    feed_text(3, ID, "");
    EXPECT_STORY("open GET /a end;end;");
    feed_text(1, "third", GET_TEXT);
    feed_text(1, "fourth", GET_TEXT);
    cr_assert_eq(strncmp(pull(), "E The agent has no capacity", 27), 0);
    cr_assert_str_eq(out_id, "fourth");
    EXPECT_STORY("");
    finish();
}

Test(old_agent, a_cancel_at_any_time)
{
    start(GM_MUX_AGENT);
    feed_text(1, ID, GET_TEXT);
    feed_text(4, ID, "");
    EXPECT_STORY(""); /* nobody knew of it */
    cr_assert_eq(gm_mux_open_count(&mux), 1);
    (void)pull();
    cr_assert_eq(gm_mux_open_count(&mux), 0);
    feed_text(1, ID, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    feed_text(2, ID, "he");
    feed_text(4, ID, "");
    EXPECT_STORY("open POST / body;data 2;reset cancelled 0;");
    (void)pull();
    EXPECT_STORY("closed;");
    feed_text(1, ID, GET_TEXT);
    feed_text(3, ID, "client disconnected");
    EXPECT_STORY("");
    cr_assert_str_eq(pull(), "");
    feed_text(1, ID, GET_TEXT); /* the client of a request that is whole has left */
    feed_text(3, ID, "");
    cr_assert_eq(gm_stream_head(last, response_block(200, GM_HEAD_FLAG_BODY), false), 0);
    (void)pull();
    send(last, 10);
    story[0] = 0;
    feed_text(4, ID, "");
    EXPECT_STORY("stop;");
    cr_assert_str_eq(pull(), "");
    EXPECT_STORY("closed;");
    finish();
}

static void expect_refusal(uint16_t reason, const char *first, const char *second)
{
    start(GM_MUX_AGENT);
    refuse_open = reason;
    feed_text(1, ID, GET_TEXT);
    feed_text(3, ID, "");
    const char *got = pull();
    cr_assert_eq(strncmp(got, first, strlen(first)), 0, "%s", got);
    if (second != NULL) {
        got = pull();
        cr_assert_eq(strncmp(got, second, strlen(second)), 0, "%s", got);
        cr_assert_str_eq(pull(), "E ");
    }
    cr_assert_str_eq(pull(), "");
    EXPECT_STORY("open GET /a end;closed;");
    finish();
}
Test(old_agent, refusals)
{
    expect_refusal(GM_REASON_AGENT_LIMIT,
                   "S HTTP/1.1 429 Too Many Requests\r\nContent-Length: 42\r\n"
                   "Content-Type: text/plain\r\n",
                   "D Agent concurrent request limit reached (7)");
    expect_refusal(GM_REASON_BACKEND_TIMEOUT, "S HTTP/1.1 504 ", "D The backend did not begin");
    expect_refusal(GM_REASON_OVERLOAD, "S HTTP/1.1 503 ", "D The gateway has no capacity");
    expect_refusal(GM_REASON_BACKEND_CONNECT, "E The agent could not connect", NULL);
}

Test(old_agent, a_head_that_is_none)
{
    start(GM_MUX_AGENT);
    feed_text(1, ID, "GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n");
    cr_assert_eq(strncmp(pull(), "S HTTP/1.1 400 ", 15), 0);
    cr_assert_eq(pull()[0], 'D');
    cr_assert_str_eq(pull(), "E ");
    feed_text(3, ID, "");
    EXPECT_STORY("");
    cr_assert_eq(gm_mux_open_count(&mux), 0);
    finish();
}

/* Servers of 0.0.x decode the path of their client, and write it as it is. */
Test(old_agent, a_target_that_was_decoded_is_encoded_again)
{
    static const struct {
        const char *decoded, *story;
    } cases[] = {
        {"/caf\xc3\xa9", "open GET /caf%C3%A9 end;end;"},
        {"/a b#c?d=%20", "open GET /a%20b%23c?d=%20 end;end;"},
        {"/ HTTP/1.0", "open GET /%20HTTP/1.0 end;end;"},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[100];
        start(GM_MUX_AGENT);
        (void)snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", cases[i].decoded);
        feed_text(1, ID, text);
        feed_text(3, ID, "");
        EXPECT_STORY(cases[i].story);
        finish();
    }
}

Test(old_agent, an_answer_that_breaks)
{
    start(GM_MUX_AGENT);
    feed_text(1, ID, GET_TEXT);
    feed_text(3, ID, "");
    cr_assert_eq(gm_stream_head(last, response_block(200, GM_HEAD_FLAG_BODY), false), 0);
    (void)pull();
    send(last, 10);
    gm_stream_reset(last, GM_REASON_BACKEND_CLOSED, 0);
    cr_assert_eq(strncmp(pull(), "E The backend closed", 20), 0);
    cr_assert_str_eq(pull(), "");
    finish();
}

Test(old_agent, an_early_answer_drops_the_rest_of_the_body)
{
    start(GM_MUX_AGENT);
    feed_text(1, ID, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n");
    gm_stream_stop(last, GM_REASON_NONE);
    cr_assert_eq(gm_stream_head(last, response_block(200, 0), true), 0);
    cr_assert_eq(pull()[0], 'S');
    cr_assert_str_eq(pull(), "E ");
    story[0] = 0;
    static uint8_t body[9000];
    cr_assert(feed(2, ID, body, sizeof body)); /* more than its window: nobody waits for it */
    feed_text(3, ID, "");
    EXPECT_STORY("end;closed;");
    finish();
}

Test(old_agent, a_slow_backend_blocks)
{
    static uint8_t body[9000];
    start(GM_MUX_AGENT);
    feed_text(1, ID, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9000\r\n\r\n");
    hold_data = true;
    cr_assert(!feed(2, ID, body, sizeof body));
    EXPECT_STORY("open POST / body;data 5000;");
    gm_stream_drained(last, 5000, 1);
    cr_assert(!gm_mux_old_blocked(&mux) && go_on());
    EXPECT_STORY("data 4000;");
    finish();
}
