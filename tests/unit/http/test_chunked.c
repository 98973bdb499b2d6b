/*
 * Chunked coding: good and bad bodies at every pair of cuts, limits, trailers, encoder and decoder
 * against each other.
 */
#include "util.h"

#include "http/chunked.h"

#define OUT_MAX 4096

struct decoded {
    int result; /* DONE, MORE, SCRATCH or an error */
    size_t consumed;
    size_t len;
    struct gm_http_chunked decoder;
    char scratch[512];
    char data[OUT_MAX];
};

/* Feeds [from, to) of the text from an exact copy, until it is used up or the decoder stops. */
static void feed(struct decoded *t, const char *text, size_t from, size_t to)
{
    char *copy = copy_of(text + from, to - from);
    size_t n = 0;
    while (n < to - from && t->result >= 0 && t->result != GM_HTTP_CHUNKED_DONE) {
        struct gm_http_chunked_step step;
        t->result = gm_http_chunked_feed(&t->decoder, copy + n, to - from - n, &step);
        if (t->result < 0)
            break;
        if (t->result == GM_HTTP_CHUNKED_SCRATCH)
            gm_http_chunked_lend(&t->decoder, t->scratch, sizeof(t->scratch));
        cr_assert(step.data.len == 0 || (step.data.p >= copy + n &&
                                         step.data.p + step.data.len == copy + n + step.consumed));
        cr_assert_eq(step.data.len > 0, t->result == GM_HTTP_CHUNKED_DATA);
        if (step.data.len > 0)
            memcpy(t->data + t->len, step.data.p, step.data.len);
        t->len += step.data.len;
        n += step.consumed;
    }
    t->consumed += n;
    free(copy);
}

static void decode(struct decoded *t, const char *text, size_t len, const size_t cuts[2])
{
    t->result = 0;
    t->len = t->consumed = 0;
    gm_http_chunked_init(&t->decoder, NULL, 0);
    feed(t, text, 0, cuts[0]);
    feed(t, text, cuts[0], cuts[1]);
    feed(t, text, cuts[1], len);
}

struct good {
    const char *text, *data;
    int trailers;
};

static const struct good good_bodies[] = {
    {"0\r\n\r\n", "", 0},
    {"000\r\n\r\n", "", 0},
    {"5\r\nhello\r\n0\r\n\r\n", "hello", 0},
    {"0000000000000005\r\nhello\r\n1;a=b;c=\"d e\"\r\n!\r\n0;x\r\n\r\n", "hello!", 0},
    {"A\r\n0123456789\r\nb\r\n\r\n\r\n\r\n\r\nabc\r\n0\r\n\r\n", "0123456789\r\n\r\n\r\n\r\nabc",
     0},
    {"1\r\na\r\n0\r\nX-Sum: 12\r\nEtag:\r\n\r\n", "a", 2},
    {"0\r\na:b\r\n\r\n", "", 1},
};

Test(chunked, good_at_every_pair_of_cuts)
{
    static struct decoded t;
    for (size_t i = 0; i < sizeof(good_bodies) / sizeof(good_bodies[0]); i++) {
        const struct good *g = &good_bodies[i];
        size_t len = strlen(g->text);
        char text[128];
        memcpy(text, g->text, len);
        memcpy(text + len, "GET ", 4);
        for (size_t a = 0; a <= len; a++) {
            for (size_t b = a; b <= len; b++) {
                decode(&t, text, len + 4, (size_t[2]){a, b});
                cr_assert_eq(t.result, GM_HTTP_CHUNKED_DONE, "%s: %s", g->text,
                             gm_http_error_name(t.result));
                cr_assert(gm_http_chunked_done(&t.decoder));
                cr_assert_eq(t.consumed, len);
                cr_assert(t.len == strlen(g->data) && memcmp(t.data, g->data, t.len) == 0, "%s",
                          g->text);
                struct gm_http_field list[4];
                struct gm_http_fields fields = {.list = list, .max = 4};
                cr_assert_eq(gm_http_chunked_trailers(&t.decoder, &fields), g->trailers);
            }
        }
        /* Cut short anywhere, it is neither done nor an error. */
        for (size_t n = 0; n < len; n++) {
            decode(&t, g->text, n, (size_t[2]){n / 2, n});
            cr_assert(t.result >= 0 && !gm_http_chunked_done(&t.decoder));
        }
    }
}

struct bad {
    const char *text;
    size_t len;
    enum gm_http_error error;
};
#define BAD(text, error)                                                                           \
    {                                                                                              \
        (text), sizeof(text) - 1, GM_HTTP_E_##error                                                \
    }

static const struct bad bad_bodies[] = {
    BAD("\r\n", CHUNK_SIZE),
    BAD("x\r\n", CHUNK_SIZE),
    BAD(" 5\r\nhello", CHUNK_SIZE),
    BAD("5 \r\nhello", CHUNK_SIZE),
    BAD("5\t;a\r\nhello", CHUNK_SIZE),
    BAD("+5\r\nhello", CHUNK_SIZE),
    BAD("-5\r\nhello", CHUNK_SIZE),
    BAD("0x5\r\nhello", CHUNK_SIZE),
    BAD("5_0\r\nhello", CHUNK_SIZE),
    BAD("5,5\r\nhello", CHUNK_SIZE),
    BAD(";a\r\n", CHUNK_SIZE),
    BAD("8000000000000000\r\n", CHUNK_TOO_LARGE),
    BAD("FFFFFFFFFFFFFFFF\r\n", CHUNK_TOO_LARGE),
    BAD("10000000000000005\r\n", CHUNK_TOO_LARGE),
    BAD("00000000000000005\r\nhello", CHUNK_TOO_LARGE),
    BAD("5\nhello", BARE_LF),
    BAD("\n", CHUNK_SIZE),
    BAD("5;a\nhello", BARE_LF),
    BAD("5\rhello", BARE_CR),
    BAD("5\r\rhello", BARE_CR),
    BAD("5;a\rb\r\nhello", BARE_CR),
    BAD("5;a\0b\r\nhello", CHUNK_EXTENSION),
    BAD("5;a\x7f\r\nhello", CHUNK_EXTENSION),
    BAD("5\r\nhello0\r\n\r\n", CHUNK_END),
    BAD("5\r\nhello\n0\r\n\r\n", CHUNK_END),
    BAD("5\r\nhello\r0\r\n\r\n", CHUNK_END),
    BAD("5\r\nhello \r\n0\r\n\r\n", CHUNK_END),
    BAD("0\r\n\rX", BARE_CR),
    BAD("0\r\n\n", BARE_LF),
    BAD("0\n\n", BARE_LF),
    BAD("0\r\nA: b\n\r\n", BARE_LF),
    BAD("0\r\nA: b\r\n\n", BARE_LF),
    BAD("0\r\nA: b\rc\r\n\r\n", BARE_CR),
    BAD("0\r\nA: b\r\n\rc\r\n", BARE_CR),
    BAD("0\r\nA: b\r\n c\r\n\r\n", FIELD_FOLD),
    BAD("0\r\n A: b\r\n\r\n", FIELD_FOLD),
    BAD("0\r\nA : b\r\n\r\n", FIELD_NAME_SPACE),
    BAD("0\r\nA\r\n\r\n", FIELD_NO_COLON),
    BAD("0\r\nGET / HTTP/1.1\r\n\r\n", FIELD_NAME),
    BAD("0\r\nA: \x01\r\n\r\n", FIELD_VALUE),
    BAD("0\r\nContent-Length: 5\r\n\r\n", TRAILER_FORBIDDEN),
    BAD("0\r\nA: b\r\nTRANSFER-ENCODING: chunked\r\n\r\n", TRAILER_FORBIDDEN),
    BAD("0\r\nHost: a\r\n\r\n", TRAILER_FORBIDDEN),
    BAD("0\r\nConnection: close\r\n\r\n", TRAILER_FORBIDDEN),
    BAD("0\r\nAuthorization: x\r\n\r\n", TRAILER_FORBIDDEN),
    BAD("0\r\nSet-Cookie: x\r\n\r\n", TRAILER_FORBIDDEN),
};

Test(chunked, bad_at_every_pair_of_cuts)
{
    static struct decoded t;
    for (size_t i = 0; i < sizeof(bad_bodies) / sizeof(bad_bodies[0]); i++) {
        const struct bad *b = &bad_bodies[i];
        for (size_t x = 0; x <= b->len; x++) {
            for (size_t y = x; y <= b->len; y++) {
                decode(&t, b->text, b->len, (size_t[2]){x, y});
                ASSERT_ERROR(t.result, b->error, b->text);
                cr_assert(!gm_http_chunked_done(&t.decoder), "%s", b->text);
            }
        }
    }
}

Test(chunked, trailers_point_into_scratch)
{
    static struct decoded t;
    const char *text = "0\r\nX-Sum:  12 \r\nETag: \"x\"\r\n\r\n";
    struct gm_http_field list[2];
    struct gm_http_fields fields = {.list = list, .max = 2};
    decode(&t, text, strlen(text), (size_t[2]){9, 9});
    cr_assert_eq(gm_http_chunked_trailers(&t.decoder, &fields), 2);
    ASSERT_SPAN(gm_http_field_value(&list[0]), "12");
    cr_assert_eq(list[1].id, GM_HTTP_ID_ETAG);
    cr_assert(list[0].name == t.scratch);
    fields.max = 1;
    ASSERT_ERROR(gm_http_chunked_trailers(&t.decoder, &fields), GM_HTTP_E_FIELD_TOO_MANY, text);
}

Test(chunked, trailers_are_bounded_by_the_scratch)
{
    const char *text = "0\r\nA: 23456\r\n\r\n";
    struct gm_http_chunked_step step;
    struct gm_http_chunked d;
    char scratch[12];
    gm_http_chunked_init(&d, scratch, 12);
    cr_assert_eq(gm_http_chunked_feed(&d, text, strlen(text), &step), GM_HTTP_CHUNKED_DONE);
    gm_http_chunked_init(&d, scratch, 11);
    ASSERT_ERROR(gm_http_chunked_feed(&d, text, strlen(text), &step), GM_HTTP_E_TRAILER_TOO_LARGE,
                 text);
    gm_http_chunked_init(&d, NULL, 0);
    cr_assert_eq(gm_http_chunked_feed(&d, text, strlen(text), &step), GM_HTTP_CHUNKED_SCRATCH);
    cr_assert_eq(step.consumed, 3);
    cr_assert_eq(gm_http_chunked_feed(&d, NULL, 0, &step), GM_HTTP_CHUNKED_MORE);
    cr_assert_eq(step.consumed, 0);
}

/* Feeds "1;<n bytes>\r\nx\r\n" count times; the last result. */
static int extensions(size_t n, unsigned count)
{
    char text[1024];
    struct gm_http_chunked d;
    struct gm_http_chunked_step step;
    int r = 0;
    memcpy(text, "1;", 2);
    memset(text + 2, 'e', n);
    memcpy(text + 2 + n, "\r\nx\r\n", 5);
    gm_http_chunked_init(&d, NULL, 0);
    for (unsigned i = 0; i < count && r >= 0; i++) {
        for (size_t at = 0; at < n + 7 && r >= 0; at += step.consumed)
            r = gm_http_chunked_feed(&d, text + at, n + 7 - at, &step);
    }
    return r;
}

Test(chunked, extensions_are_bounded)
{
    cr_assert(extensions(GM_HTTP_CHUNK_EXTENSION_MAX, 1) >= 0);
    ASSERT_ERROR(extensions(GM_HTTP_CHUNK_EXTENSION_MAX + 1, 1), GM_HTTP_E_CHUNK_EXTENSION,
                 "one long");
    /* Each chunk's one data byte pays for one extension byte. */
    cr_assert(extensions(1, 100000) >= 0);
    cr_assert(extensions(101, GM_HTTP_CHUNK_EXCESS_MAX / 100 - 1) >= 0);
    ASSERT_ERROR(extensions(101, GM_HTTP_CHUNK_EXCESS_MAX / 100 + 2), GM_HTTP_E_CHUNK_EXTENSION,
                 "many");
}

Test(chunked, heads)
{
    static const struct {
        uint64_t n;
        const char *head;
    } heads[] = {
        {1, "1\r\n"},
        {15, "f\r\n"},
        {16, "10\r\n"},
        {255, "ff\r\n"},
        {256, "100\r\n"},
        {16384, "4000\r\n"},
        {UINT32_MAX, "ffffffff\r\n"},
        {1ull << 32, "100000000\r\n"},
        {UINT64_MAX, "ffffffffffffffff\r\n"},
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        char out[GM_HTTP_CHUNK_HEAD_MAX];
        size_t len = gm_http_chunk_head(out, heads[i].n);
        ASSERT_SPAN(((struct gm_http_span){out, len}), heads[i].head);
    }
}

Test(chunked, decoder_undoes_encoder)
{
    static struct decoded t;
    uint32_t seed = 1;
    for (int round = 0; round < 300; round++) {
        char text[OUT_MAX], data[OUT_MAX];
        size_t len = 0, data_len = 0;
        for (int chunk = 0; chunk < 6; chunk++) {
            seed = seed * 1103515245u + 12345u;
            size_t n = 1 + (seed >> 16) % 300;
            len += gm_http_chunk_head(text + len, n);
            for (size_t i = 0; i < n; i++)
                data[data_len + i] = text[len + i] = (char)("\r\n0;x"[(seed >> (i % 13)) % 5]);
            len += n;
            data_len += n;
            memcpy(text + len, GM_HTTP_CHUNK_TAIL, 2);
            len += 2;
        }
        memcpy(text + len, GM_HTTP_CHUNK_END, 5);
        len += 5;
        seed = seed * 1103515245u + 12345u;
        size_t a = (seed >> 8) % len;
        decode(&t, text, len, (size_t[2]){a, a + (len - a) / 2});
        cr_assert_eq(t.result, GM_HTTP_CHUNKED_DONE);
        cr_assert(t.len == data_len && memcmp(t.data, data, data_len) == 0);
    }
}
