/* Head blocks: encode and decode agree, everything forbidden is refused by both sides, and no
 * length is trusted. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "frame/head.h"

#define TEXT(s) (s), (sizeof(s) - 1)

static struct gm_head_field field(const char *name, const char *value)
{
    return (struct gm_head_field){name, value, (uint16_t)strlen(name), (uint16_t)strlen(value)};
}

static struct gm_head_request request(void)
{
    return (struct gm_head_request){.method = "POST",
                                    .method_len = 4,
                                    .target = "/v1//a%2Fb?q=\x80x",
                                    .target_len = 15,
                                    .authority = "[::1]:8080",
                                    .authority_len = 10,
                                    .content_length = 42,
                                    .flags = GM_HEAD_FLAG_BODY | GM_HEAD_FLAG_TE_TRAILERS};
}

static struct gm_head_response response(uint16_t status)
{
    return (struct gm_head_response){.status = status,
                                     .reason = "All fine",
                                     .reason_len = 8,
                                     .content_length = GM_HEAD_LENGTH_UNKNOWN};
}

static uint8_t block[GM_FRAME_BLOCK_MAX + 16];

/* Writes r with one field (or none) into `block`; the length or an error. */
static int write_request(const struct gm_head_request *r, const struct gm_head_field *f)
{
    struct gm_head_writer w;
    gm_head_write_request(&w, block, sizeof(block), r);
    if (f != NULL)
        gm_head_write_field(&w, f);
    return gm_head_write_finish(&w);
}

static int write_response(const struct gm_head_response *r, const struct gm_head_field *f)
{
    struct gm_head_writer w;
    gm_head_write_response(&w, block, sizeof(block), r);
    if (f != NULL)
        gm_head_write_field(&w, f);
    return gm_head_write_finish(&w);
}

static int write_trailers(const struct gm_head_field *f)
{
    struct gm_head_writer w;
    gm_head_write_trailers(&w, block, sizeof(block));
    if (f != NULL)
        gm_head_write_field(&w, f);
    return gm_head_write_finish(&w);
}

static void expect_text(const char *got, size_t got_len, const char *want)
{
    cr_assert_eq(got_len, strlen(want));
    cr_assert_eq(memcmp(got, want, got_len), 0);
}

Test(head, request_round_trip)
{
    struct gm_head_request r = request();
    struct gm_head_writer w;
    gm_head_write_request(&w, block, sizeof(block), &r);
    struct gm_head_field fields[] = {field("X-Case", "Kept \t as is \x80\xff"), field("accept", ""),
                                     field("x-case", "again")};
    for (size_t i = 0; i < 3; i++)
        gm_head_write_field(&w, &fields[i]);
    int n = gm_head_write_finish(&w);
    cr_assert_gt(n, 0);
    struct gm_head_request out;
    cr_assert_eq(gm_head_read_request(block, (size_t)n, &out), 0);
    expect_text(out.method, out.method_len, "POST");
    expect_text(out.target, out.target_len, "/v1//a%2Fb?q=\x80x");
    expect_text(out.authority, out.authority_len, "[::1]:8080");
    cr_assert_eq(out.content_length, 42);
    cr_assert_eq(out.flags, r.flags);
    cr_assert_eq(out.fields.count, 3);
    struct gm_head_field f;
    for (size_t i = 0; i < 3; i++) {
        cr_assert(gm_head_next(&out.fields, &f));
        expect_text(f.name, f.name_len, fields[i].name);
        expect_text(f.value, f.value_len, fields[i].value);
    }
    cr_assert_not(gm_head_next(&out.fields, &f));

    struct gm_head_request again;
    gm_head_view_request(block, &again);
    expect_text(again.target, again.target_len, "/v1//a%2Fb?q=\x80x");
    expect_text(again.authority, again.authority_len, "[::1]:8080");
    cr_assert_eq(again.fields.count, 3);
    cr_assert(gm_head_next(&again.fields, &f));
    expect_text(f.name, f.name_len, "X-Case");
}

Test(head, wire_layout_is_the_protocols)
{
    struct gm_head_request r = {.method = "GET",
                                .method_len = 3,
                                .target = "/",
                                .target_len = 1,
                                .authority = "h",
                                .authority_len = 1,
                                .content_length = GM_HEAD_LENGTH_UNKNOWN,
                                .flags = 0};
    struct gm_head_field f = field("a", "bc");
    static const uint8_t want[] = {1,    0,    3,    0,    1,    0, 1, 0,   0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0,   0,    'G',  'E',
                                   'T',  '/',  'h',  1,    0,    2, 0, 'a', 'b',  'c'};
    cr_assert_eq(write_request(&r, &f), sizeof(want));
    cr_assert_arr_eq(block, want, sizeof(want));
    struct gm_head_response s = {.status = 200,
                                 .reason = "OK",
                                 .reason_len = 2,
                                 .content_length = 5,
                                 .flags = GM_HEAD_FLAG_BODY};
    static const uint8_t want_response[] = {2, 2, 200, 0,   2,   0, 1, 0, 5, 0,   0,   0,  0,
                                            0, 0, 0,   'O', 'K', 1, 0, 2, 0, 'a', 'b', 'c'};
    cr_assert_eq(write_response(&s, &f), sizeof(want_response));
    cr_assert_arr_eq(block, want_response, sizeof(want_response));
    static const uint8_t want_trailers[] = {3, 0, 1, 0, 1, 0, 2, 0, 'a', 'b', 'c'};
    cr_assert_eq(write_trailers(&f), sizeof(want_trailers));
    cr_assert_arr_eq(block, want_trailers, sizeof(want_trailers));
}

Test(head, response_and_trailers_round_trip)
{
    struct gm_head_response r = response(299);
    struct gm_head_field f = field("Server", "x");
    int n = write_response(&r, &f);
    struct gm_head_response out;
    cr_assert_eq(gm_head_read_response(block, (size_t)n, &out), 0);
    cr_assert_eq(out.status, 299);
    expect_text(out.reason, out.reason_len, "All fine");
    cr_assert_eq(out.content_length, GM_HEAD_LENGTH_UNKNOWN);
    cr_assert(gm_head_next(&out.fields, &f));
    expect_text(f.name, f.name_len, "Server");

    f = field("X-Sum", "1");
    n = write_trailers(&f);
    struct gm_head_fields fields;
    cr_assert_eq(gm_head_read_trailers(block, (size_t)n, &fields), 0);
    cr_assert(gm_head_next(&fields, &f));
    expect_text(f.name, f.name_len, "X-Sum");
    n = write_trailers(NULL);
    cr_assert_eq(n, 4);
    cr_assert_eq(gm_head_read_trailers(block, 4, &fields), 0);
    cr_assert_not(gm_head_next(&fields, &f));
}

/* Both sides refuse r: the writer when it is given it, the reader when the same bytes come from the
 * wire. */
static void expect_request(const struct gm_head_request *r, bool good)
{
    cr_assert_eq(write_request(r, NULL) > 0, good);
    if (!good)
        cr_assert_eq(write_request(r, NULL), -EINVAL);
    uint8_t *p = block;
    p[0] = 1, p[1] = r->flags, p[2] = r->method_len, p[3] = 0;
    gm_frame_set_u16(p + 4, r->target_len);
    gm_frame_set_u16(p + 6, r->authority_len);
    gm_frame_set_u64(p + 8, r->content_length);
    gm_frame_set_u32(p + 16, 0);
    size_t n = 20;
    memcpy(p + n, r->method, r->method_len), n += r->method_len;
    memcpy(p + n, r->target, r->target_len), n += r->target_len;
    memcpy(p + n, r->authority, r->authority_len), n += r->authority_len;
    struct gm_head_request out;
    cr_assert_eq(gm_head_read_request(p, n, &out), good ? 0 : -GM_E_PROTOCOL);
}

Test(head, every_byte_of_method_target_authority)
{
    const char token[] =
        "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const char authority[] =
        "-._~%!$&'()*+,;=:[]0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (unsigned c = 0; c < 256; c++) {
        char text[40];
        for (size_t n = 1; n < sizeof(text); n += 13) {
            for (size_t at = 0; at < n; at += n / 3 + 1) {
                memset(text, 'A', n);
                text[at] = (char)c;
                struct gm_head_request r = request();
                r.method = text, r.method_len = (uint8_t)n;
                expect_request(&r, c != 0 && strchr(token, (int)c) != NULL);
                r = request();
                r.target = text, r.target_len = (uint16_t)n;
                expect_request(&r, c > ' ' && c != 0x7f);
                r = request();
                r.authority = text, r.authority_len = (uint16_t)n;
                expect_request(&r, c != 0 && strchr(authority, (int)c) != NULL);
            }
        }
    }
}

Test(head, request_rules)
{
    struct gm_head_request r = request();
    expect_request(&r, true);
    r.authority_len = 0;
    expect_request(&r, true);
    r.method_len = 0;
    expect_request(&r, false);
    r = request(), r.target_len = 0;
    expect_request(&r, false);
    r = request(), r.flags = 0;
    expect_request(&r, false); /* length without body */
    r.content_length = 0;
    expect_request(&r, true);
    r.flags = GM_HEAD_FLAG_BODY;
    expect_request(&r, false); /* body of length 0 */
    r.content_length = GM_HEAD_LENGTH_UNKNOWN;
    expect_request(&r, true);
    r.flags |= GM_HEAD_FLAG_UPGRADE;
    expect_request(&r, false); /* upgrade with body */
    r.flags = GM_HEAD_FLAG_UPGRADE;
    expect_request(&r, true);
    r.flags = 0xf0;
    expect_request(&r, true); /* unknown flags */
}

static void expect_response(struct gm_head_response r, bool good)
{
    int n = write_response(&r, NULL);
    cr_assert_eq(n, good ? 24 : -EINVAL, "status %d", r.status);
    struct gm_head_response sample = response(200);
    n = write_response(&sample, NULL);
    block[1] = r.flags;
    gm_frame_set_u16(block + 2, r.status);
    gm_frame_set_u64(block + 8, r.content_length);
    memcpy(block + 16, r.reason, 8);
    struct gm_head_response out;
    cr_assert_eq(gm_head_read_response(block, (size_t)n, &out), good ? 0 : -GM_E_PROTOCOL);
}

Test(head, response_rules)
{
    for (unsigned status = 0; status < 1100; status++)
        expect_response(response((uint16_t)status), status >= 100 && status <= 999);
    struct gm_head_response r = response(200);
    r.content_length = 7;
    expect_response(r, true); /* HEAD */
    r.flags = GM_HEAD_FLAG_BODY;
    expect_response(r, true);
    r.content_length = 0;
    expect_response(r, false);
    static const uint16_t bare[] = {100, 101, 199, 204};
    for (size_t i = 0; i < 4; i++) {
        r = response(bare[i]), r.content_length = 0;
        expect_response(r, false);
        r = response(bare[i]), r.flags = GM_HEAD_FLAG_BODY;
        expect_response(r, false);
        r = response(bare[i]), r.flags = GM_HEAD_FLAG_UPGRADE;
        expect_response(r, bare[i] == 101);
    }
    r = response(304), r.content_length = 9;
    expect_response(r, true);
    for (unsigned c = 0; c < 256; c++) {
        char text[] = "abcdefgh";
        text[3] = (char)c;
        r = response(200), r.reason = text;
        expect_response(r, c == '\t' || (c >= ' ' && c != 0x7f));
    }
}

/* A field refused or taken by the writer and, as bytes, by the reader; in a request, a response and
 * trailers. */
static void expect_field(const struct gm_head_field *f, bool in_request, bool in_response,
                         bool in_trailers)
{
    struct gm_head_request q = request();
    struct gm_head_response s = response(200);
    cr_assert_eq(write_request(&q, f) > 0, in_request, "%.*s", f->name_len, f->name);
    cr_assert_eq(write_response(&s, f) > 0, in_response, "%.*s", f->name_len, f->name);
    cr_assert_eq(write_trailers(f) > 0, in_trailers, "%.*s", f->name_len, f->name);

    uint8_t bytes[512];
    gm_frame_set_u16(bytes, f->name_len);
    gm_frame_set_u16(bytes + 2, f->value_len);
    memcpy(bytes + 4, f->name, f->name_len);
    memcpy(bytes + 4 + f->name_len, f->value, f->value_len);
    size_t n = 4u + f->name_len + f->value_len;
    size_t at = (size_t)write_request(&q, NULL);
    gm_frame_set_u16(block + 16, 1);
    memcpy(block + at, bytes, n);
    struct gm_head_request q_out;
    cr_assert_eq(gm_head_read_request(block, at + n, &q_out), in_request ? 0 : -GM_E_PROTOCOL);
    at = (size_t)write_response(&s, NULL);
    gm_frame_set_u16(block + 6, 1);
    memcpy(block + at, bytes, n);
    struct gm_head_response s_out;
    cr_assert_eq(gm_head_read_response(block, at + n, &s_out), in_response ? 0 : -GM_E_PROTOCOL);
    at = (size_t)write_trailers(NULL);
    gm_frame_set_u16(block + 2, 1);
    memcpy(block + at, bytes, n);
    struct gm_head_fields t_out;
    cr_assert_eq(gm_head_read_trailers(block, at + n, &t_out), in_trailers ? 0 : -GM_E_PROTOCOL);
}

static void expect_field_everywhere(const char *name, size_t name_len, const char *value,
                                    size_t value_len, bool good)
{
    struct gm_head_field f = {name, value, (uint16_t)name_len, (uint16_t)value_len};
    expect_field(&f, good, good, good);
}

Test(head, every_byte_of_names_and_values)
{
    const char token[] =
        "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char text[64];
    for (unsigned c = 0; c < 256; c++) {
        for (size_t at = 0; at < 40; at += 3) {
            memset(text, 'v', sizeof(text));
            text[at] = (char)c;
            expect_field_everywhere(text, 40, TEXT("ok"), c != 0 && strchr(token, (int)c) != NULL);
            bool blank = c == ' ' || c == '\t';
            bool text_byte = (c > ' ' && c != 0x7f) || blank;
            bool at_edge = at == 0 || at == 39;
            expect_field_everywhere(TEXT("name"), text, 40, text_byte && !(blank && at_edge));
        }
    }
    expect_field_everywhere("", 0, TEXT("x"), false);
    expect_field_everywhere(TEXT("x"), "", 0, true);
    expect_field_everywhere(TEXT("x"), TEXT(" "), false);
}

Test(head, a_bad_byte_is_seen_at_every_place_in_strings_of_every_length)
{
    static const char bad[] = {'\0', '\n', '\r', 0x1f, 0x7f};
    char text[70];
    for (size_t n = 1; n < sizeof(text); n++) {
        for (size_t at = 0; at < n; at++) {
            for (size_t b = 0; b < sizeof(bad); b++) {
                memset(text, 'v', n);
                struct gm_head_request r = request();
                r.target = text, r.target_len = (uint16_t)n;
                struct gm_head_field f = {"n", text, 1, (uint16_t)n};
                cr_assert_gt(write_request(&r, &f), 0);
                text[at] = bad[b];
                cr_assert_eq(write_request(&r, NULL), -EINVAL, "%zu of %zu", at, n);
                cr_assert_eq(write_trailers(&f), -EINVAL, "%zu of %zu", at, n);
            }
        }
    }
}

Test(head, fields_of_one_leg_never_cross)
{
    static const char *const names[] = {
        "Connection", "connection",        "CONTENT-LENGTH", "Keep-Alive",
        "TE",         "Transfer-Encoding", "Upgrade",        "Proxy-Connection"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        expect_field_everywhere(names[i], strlen(names[i]), TEXT("x"), false);
    struct gm_head_field host = field("hOsT", "x");
    expect_field(&host, false, true, false);
    static const char *const fine[] = {"Trailer", "Expect",          "Te1",          "Hosts",
                                       "Date",    "Content-Lengths", "Content-Type", "Xpgrade"};
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
        expect_field_everywhere(fine[i], strlen(fine[i]), TEXT("x"), true);

    struct gm_head_field upgrade = field("Upgrade", "websocket");
    struct gm_head_request q = request();
    q.flags = GM_HEAD_FLAG_UPGRADE, q.content_length = GM_HEAD_LENGTH_UNKNOWN;
    int n = write_request(&q, &upgrade);
    cr_assert_gt(n, 0);
    cr_assert_eq(gm_head_read_request(block, (size_t)n, &q), 0);
    struct gm_head_response s = response(101);
    s.flags = GM_HEAD_FLAG_UPGRADE;
    n = write_response(&s, &upgrade);
    cr_assert_gt(n, 0);
    cr_assert_eq(gm_head_read_response(block, (size_t)n, &s), 0);
}

Test(head, the_writer_is_bounded)
{
    struct gm_head_request r = request();
    struct gm_head_response s = response(200);
    struct gm_head_field f = field("name", "value");
    int need = write_request(&r, &f);
    struct gm_head_writer w;
    for (size_t cap = 0; cap <= (size_t)need; cap++) {
        uint8_t *buf = malloc(cap + 1);
        gm_head_write_request(&w, buf, cap, &r);
        gm_head_write_field(&w, &f);
        cr_assert_eq(gm_head_write_finish(&w), cap < (size_t)need ? -GM_E_LIMIT : need);
        free(buf);
    }
    gm_head_write_response(&w, block, 23, &s);
    gm_head_write_field(&w, &f);
    cr_assert_eq(gm_head_write_finish(&w), -GM_E_LIMIT);
    gm_head_write_trailers(&w, block, 3);
    cr_assert_eq(gm_head_write_finish(&w), -GM_E_LIMIT);
}

Test(head, limits_of_fields_and_size)
{
    struct gm_head_field f = field("n", "v");
    struct gm_head_writer w;
    struct gm_head_fields out;
    gm_head_write_trailers(&w, block, sizeof(block));
    for (unsigned i = 0; i < GM_HEAD_FIELDS_MAX; i++)
        gm_head_write_field(&w, &f);
    int n = gm_head_write_finish(&w);
    cr_assert_eq(n, 4 + 160 * 6);
    cr_assert_eq(gm_head_read_trailers(block, (size_t)n, &out), 0);
    gm_head_write_field(&w, &f);
    cr_assert_eq(gm_head_write_finish(&w), -GM_E_LIMIT);
    memcpy(block + n, block + 4, 6);
    gm_frame_set_u16(block + 2, 161);
    cr_assert_eq(gm_head_read_trailers(block, (size_t)n + 6, &out), -GM_E_PROTOCOL);

    static char value[UINT16_MAX];
    memset(value, 'v', sizeof(value));
    for (unsigned over = 2; over-- > 0;) {
        f = (struct gm_head_field){"n", value, 1, (uint16_t)(GM_FRAME_BLOCK_MAX - 4 - 5 + over)};
        gm_head_write_trailers(&w, block, sizeof(block));
        gm_head_write_field(&w, &f);
        cr_assert_eq(gm_head_write_finish(&w), over ? -GM_E_LIMIT : (int)GM_FRAME_BLOCK_MAX);
    }
    n = (int)GM_FRAME_BLOCK_MAX;
    cr_assert_eq(gm_head_read_trailers(block, (size_t)n, &out), 0);
    /* One byte more, and the field's own length says so: only the limit can refuse it. */
    gm_frame_set_u16(block + 6, (uint16_t)(gm_frame_get_u16(block + 6) + 1));
    block[n] = 'v';
    cr_assert_eq(gm_head_read_trailers(block, (size_t)n + 1, &out), -GM_E_PROTOCOL);
}

Test(head, every_truncation_and_every_bit)
{
    struct gm_head_request r = request();
    struct gm_head_response s = response(200);
    struct gm_head_field f = field("Some-Name", "some value");
    static uint8_t sample[3][256];
    int len[3] = {write_request(&r, &f), 0, 0};
    memcpy(sample[0], block, (size_t)len[0]);
    len[1] = write_response(&s, &f);
    memcpy(sample[1], block, (size_t)len[1]);
    len[2] = write_trailers(&f);
    memcpy(sample[2], block, (size_t)len[2]);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t n = 0; n <= (size_t)len[kind] + 1; n++) {
            uint8_t *copy = calloc(1, n + 1);
            memcpy(copy, sample[kind], n);
            struct gm_head_fields fields;
            int got = kind == 0   ? gm_head_read_request(copy, n, &r)
                      : kind == 1 ? gm_head_read_response(copy, n, &s)
                                  : gm_head_read_trailers(copy, n, &fields);
            cr_assert_eq(got, n == (size_t)len[kind] ? 0 : -GM_E_PROTOCOL, "kind %d length %zu",
                         kind, n);
            free(copy);
        }
    }
    /* No flipped bit leads outside the block (ASan judges), and what is accepted can be written
     * again. */
    for (size_t bit = 0; bit < 8u * (size_t)len[0]; bit++) {
        uint8_t *copy = malloc((size_t)len[0]);
        memcpy(copy, sample[0], (size_t)len[0]);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct gm_head_request out;
        if (gm_head_read_request(copy, (size_t)len[0], &out) == 0) {
            struct gm_head_writer w;
            gm_head_write_request(&w, block, sizeof(block), &out);
            while (gm_head_next(&out.fields, &f))
                gm_head_write_field(&w, &f);
            cr_assert_eq(gm_head_write_finish(&w), len[0]);
        }
        free(copy);
    }
}

Test(head, kinds)
{
    struct gm_head_request r = request();
    struct gm_head_response s;
    struct gm_head_fields t;
    int n = write_request(&r, NULL);
    cr_assert_eq(gm_head_read_response(block, (size_t)n, &s), -GM_E_PROTOCOL);
    cr_assert_eq(gm_head_read_trailers(block, (size_t)n, &t), -GM_E_PROTOCOL);
    block[0] = 4;
    cr_assert_eq(gm_head_read_request(block, (size_t)n, &r), -ENOTSUP);
    block[0] = 9;
    cr_assert_eq(gm_head_read_request(block, 1, &r), -ENOTSUP);
    cr_assert_eq(gm_head_read_request(block, 0, &r), -GM_E_PROTOCOL);
}
