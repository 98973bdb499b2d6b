/*
 * Heads written into a lent buffer (http/writer.h). Pure.
 * Invariant: nothing is written of a line unless all of it is safe and fits, so what is in the
 * buffer is always whole lines.
 */
#include "http/writer.h"

#include "base/assert.h"
#include "http/internal.h"

#include <string.h>

static const struct {
    uint16_t status;
    struct gm_http_span phrase;
} reasons[] = {
#define R(status, text)                                                                            \
    {                                                                                              \
        status,                                                                                    \
        {                                                                                          \
            text, sizeof(text) - 1                                                                 \
        }                                                                                          \
    }
    R(100, "Continue"),
    R(101, "Switching Protocols"),
    R(102, "Processing"),
    R(103, "Early Hints"),
    R(200, "OK"),
    R(201, "Created"),
    R(202, "Accepted"),
    R(203, "Non-Authoritative Information"),
    R(204, "No Content"),
    R(205, "Reset Content"),
    R(206, "Partial Content"),
    R(207, "Multi-Status"),
    R(208, "Already Reported"),
    R(226, "IM Used"),
    R(300, "Multiple Choices"),
    R(301, "Moved Permanently"),
    R(302, "Found"),
    R(303, "See Other"),
    R(304, "Not Modified"),
    R(305, "Use Proxy"),
    R(307, "Temporary Redirect"),
    R(308, "Permanent Redirect"),
    R(400, "Bad Request"),
    R(401, "Unauthorized"),
    R(402, "Payment Required"),
    R(403, "Forbidden"),
    R(404, "Not Found"),
    R(405, "Method Not Allowed"),
    R(406, "Not Acceptable"),
    R(407, "Proxy Authentication Required"),
    R(408, "Request Timeout"),
    R(409, "Conflict"),
    R(410, "Gone"),
    R(411, "Length Required"),
    R(412, "Precondition Failed"),
    R(413, "Content Too Large"),
    R(414, "URI Too Long"),
    R(415, "Unsupported Media Type"),
    R(416, "Range Not Satisfiable"),
    R(417, "Expectation Failed"),
    R(421, "Misdirected Request"),
    R(422, "Unprocessable Content"),
    R(423, "Locked"),
    R(424, "Failed Dependency"),
    R(425, "Too Early"),
    R(426, "Upgrade Required"),
    R(428, "Precondition Required"),
    R(429, "Too Many Requests"),
    R(431, "Request Header Fields Too Large"),
    R(451, "Unavailable For Legal Reasons"),
    R(499, "Client Closed Request"),
    R(500, "Internal Server Error"),
    R(501, "Not Implemented"),
    R(502, "Bad Gateway"),
    R(503, "Service Unavailable"),
    R(504, "Gateway Timeout"),
    R(505, "HTTP Version Not Supported"),
    R(506, "Variant Also Negotiates"),
    R(507, "Insufficient Storage"),
    R(508, "Loop Detected"),
    R(511, "Network Authentication Required"),
#undef R
};

struct gm_http_span gm_http_reason(unsigned status)
{
    size_t low = 0, high = sizeof(reasons) / sizeof(reasons[0]);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (reasons[middle].status == status)
            return reasons[middle].phrase;
        if (reasons[middle].status < status)
            low = middle + 1;
        else
            high = middle;
    }
    return (struct gm_http_span){"", 0};
}

void gm_http_out_init(struct gm_http_out *out, char *p, size_t cap)
{
    *out = (struct gm_http_out){.p = p, .cap = cap};
}

static bool all_value(struct gm_http_span s)
{
    return gm_scan_text(s.p, s.len, GM_SCAN_SPACED);
}

static bool all_target(struct gm_http_span s)
{
    return s.len == 0 || gm_http_scan_target(s.p, s.p + s.len) == s.p + s.len;
}

/* Makes sure that a line is safe and that n bytes of it fit. */
static bool begin(struct gm_http_out *out, bool safe, size_t n)
{
    if (out->error == 0 && !safe)
        out->error = -GM_HTTP_E_OUT_UNSAFE;
    if (out->error == 0 && n > out->cap - out->len)
        out->error = -GM_HTTP_E_OUT_SPACE;
    return out->error == 0;
}

/* Appends; begin() has made room. */
static inline void put(struct gm_http_out *out, struct gm_http_span s)
{
    GM_ASSERT(s.len <= out->cap - out->len);
    if (s.len > 0)
        memcpy(out->p + out->len, s.p, s.len);
    out->len += s.len;
}

int gm_http_write_request_line(struct gm_http_out *out, struct gm_http_span method,
                               struct gm_http_span prefix, struct gm_http_span target,
                               unsigned version_minor)
{
    bool safe = version_minor <= 1 && gm_http_is_token(method) && prefix.len + target.len > 0 &&
                all_target(prefix) && all_target(target);
    if (!begin(out, safe, method.len + prefix.len + target.len + 12))
        return out->error;
    put(out, method);
    put(out, GM_HTTP_LIT(" "));
    put(out, prefix);
    put(out, target);
    put(out, version_minor == 1 ? GM_HTTP_LIT(" HTTP/1.1\r\n") : GM_HTTP_LIT(" HTTP/1.0\r\n"));
    return 0;
}

int gm_http_write_status_line(struct gm_http_out *out, unsigned version_minor, unsigned status,
                              struct gm_http_span reason)
{
    bool safe = version_minor <= 1 && status >= 100 && status <= 999 && all_value(reason);
    char digits[4] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10),
                      (char)('0' + status % 10), ' '};
    if (reason.len == 0)
        reason = gm_http_reason(status);
    if (!begin(out, safe, reason.len + 15))
        return out->error;
    put(out, version_minor == 1 ? GM_HTTP_LIT("HTTP/1.1 ") : GM_HTTP_LIT("HTTP/1.0 "));
    put(out, (struct gm_http_span){digits, 4});
    put(out, reason);
    put(out, GM_HTTP_LIT("\r\n"));
    return 0;
}

int gm_http_write_field(struct gm_http_out *out, struct gm_http_span name,
                        struct gm_http_span value)
{
    if (!begin(out, gm_http_is_token(name) && all_value(value), name.len + value.len + 4))
        return out->error;
    put(out, name);
    put(out, GM_HTTP_LIT(": "));
    put(out, value);
    put(out, GM_HTTP_LIT("\r\n"));
    return 0;
}

int gm_http_write_field_u64(struct gm_http_out *out, struct gm_http_span name, uint64_t value)
{
    char digits[GM_HTTP_U64_MAX_LEN];
    size_t len = gm_http_format_u64(digits, value);
    return gm_http_write_field(out, name, (struct gm_http_span){digits, len});
}

int gm_http_write_fields(struct gm_http_out *out, const struct gm_http_fields *fields,
                         uint8_t skip_flags)
{
    for (unsigned i = 0; i < fields->count && out->error == 0; i++) {
        const struct gm_http_field *f = &fields->list[i];
        if (!(f->flags & skip_flags))
            (void)gm_http_write_field(out, gm_http_field_name(f), gm_http_field_value(f));
    }
    return out->error;
}

int gm_http_write_end(struct gm_http_out *out)
{
    return gm_http_write_raw(out, GM_HTTP_LIT("\r\n"));
}

int gm_http_write_raw(struct gm_http_out *out, struct gm_http_span bytes)
{
    if (begin(out, true, bytes.len))
        put(out, bytes);
    return out->error;
}

size_t gm_http_format_u64(char out[static GM_HTTP_U64_MAX_LEN], uint64_t v)
{
    char digits[GM_HTTP_U64_MAX_LEN];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    memcpy(out, digits + first, sizeof(digits) - first);
    return sizeof(digits) - first;
}

static void two_digits(char *out, unsigned v)
{
    out[0] = (char)('0' + v / 10);
    out[1] = (char)('0' + v % 10);
}

/* Day, month and year of a count of days since 1970-01-01, proleptic Gregorian calendar. Counted in
 * years that begin in March, so that the leap day is the last of its year: months are then 153 days
 * in every five. */
static void date_from_days(int64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    const int64_t days_0000_03_01 = 719468; /* from there to 1970-01-01 */
    const int64_t days_400_years = 146097;
    /* One cycle is added so that the first months of year 0 do not go below zero; it is taken off
     * the year again. */
    int64_t n = days + days_0000_03_01 + days_400_years;
    int64_t cycle = n / days_400_years, in_cycle = n % days_400_years;
    /* Leap days gone by: one in 4 years (1460 days before each), none in 100 (36524), one in 400
     * (146096). */
    int64_t y = (in_cycle - in_cycle / 1460 + in_cycle / 36524 - in_cycle / 146096) / 365;
    int64_t in_year = in_cycle - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * in_year + 2) / 153;
    *day = (unsigned)(in_year - (153 * m + 2) / 5 + 1);
    *month = (unsigned)(m < 10 ? m + 2 : m - 10); /* 0: January */
    *year = (unsigned)(y + (cycle - 1) * 400 + (m >= 10 ? 1 : 0));
}

void gm_http_format_date(char out[static GM_HTTP_DATE_LEN], int64_t unix_seconds)
{
    static const char day_names[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    const int64_t first = -62167219200, last = 253402300799; /* years 0 to 9999 */
    const int64_t day_seconds = 86400;
    unsigned year, month, day;

    int64_t t = unix_seconds < first ? first : unix_seconds > last ? last : unix_seconds;
    int64_t days = t / day_seconds, rest = t % day_seconds;
    if (rest < 0) {
        rest += day_seconds;
        days--;
    }
    date_from_days(days, &year, &month, &day);
    memcpy(out, "xxx, 00 xxx 0000 00:00:00 GMT", GM_HTTP_DATE_LEN);
    memcpy(out, day_names + 3 * ((days % 7 + 7) % 7), 3);
    two_digits(out + 5, day);
    memcpy(out + 8, month_names + 3 * month, 3);
    two_digits(out + 12, year / 100);
    two_digits(out + 14, year % 100);
    two_digits(out + 17, (unsigned)(rest / 3600));
    two_digits(out + 20, (unsigned)(rest / 60 % 60));
    two_digits(out + 23, (unsigned)(rest % 60));
}
