/*
 * Nanoseconds per head: how long parsing a request of about 700 bytes (a browser's), a small one
 * and a response takes, and what arrives in two pieces. Prints, judges nothing; best of several
 * rounds, because the machine is shared.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http/parser.h"
#include "http/writer.h"

static const char browser[] =
    "GET /services/chat/v1/models?limit=20&after=model_0123456789abcdef HTTP/1.1\r\n"
    "Host: gateway.example.com\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n"
    "Accept-Language: en-US,en;q=0.5\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: https://gateway.example.com/index.html\r\n"
    "Connection: keep-alive\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; lang=en\r\n"
    "Authorization: Bearer 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklm\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Cache-Control: max-age=0\r\n"
    "\r\n";

static const char small[] = "GET /services/echo/ HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
                            "Authorization: Bearer 0123456789abcdefghijklmnopqrstuvwxyz\r\n\r\n";

static const char answer[] =
    "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    "Content-Type: application/json\r\nContent-Length: 1234\r\n"
    "Connection: keep-alive\r\nX-Request-Id: 0123456789abcdef\r\n\r\n";

#define ROUNDS 20
#define REPEAT 20000

static struct gm_http_field fields[GM_HTTP_FIELDS_MAX];
static struct gm_http_request req;
static struct gm_http_response res;
static volatile long sink;

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void run_browser(void)
{
    size_t scanned = 0;
    sink += gm_http_parse_request(browser, sizeof(browser) - 1, &scanned, &req);
}

static void run_small(void)
{
    size_t scanned = 0;
    sink += gm_http_parse_request(small, sizeof(small) - 1, &scanned, &req);
}

static void run_two_pieces(void)
{
    size_t scanned = 0;
    sink += gm_http_parse_request(browser, 400, &scanned, &req);
    sink += gm_http_parse_request(browser, sizeof(browser) - 1, &scanned, &req);
}

static void run_answer(void)
{
    size_t scanned = 0;
    sink += gm_http_parse_response(answer, sizeof(answer) - 1, &scanned, GM_HTTP_GET, &res);
}

static void run_write(void)
{
    char buf[1024];
    struct gm_http_out out;
    gm_http_out_init(&out, buf, sizeof(buf));
    (void)gm_http_write_request_line(&out, req.method, GM_HTTP_LIT(""), req.target, 1);
    (void)gm_http_write_fields(&out, &req.fields, 0);
    sink += gm_http_write_end(&out);
}

static void measure(const char *what, size_t bytes, void (*run)(void))
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double start = now_ns();
        for (int i = 0; i < REPEAT; i++)
            run();
        double took = (now_ns() - start) / REPEAT;
        best = took < best ? took : best;
    }
    printf("%-28s %4zu bytes  %6.1f ns  %5.2f GB/s\n", what, bytes, best, (double)bytes / best);
}

int main(void)
{
    gm_http_request_init(&req, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    gm_http_response_init(&res, fields, GM_HTTP_FIELDS_MAX, GM_HTTP_HEAD_MAX);
    measure("request, small", sizeof(small) - 1, run_small);
    measure("response", sizeof(answer) - 1, run_answer);
    measure("request, in two pieces", sizeof(browser) - 1, run_two_pieces);
    measure("request, a browser's", sizeof(browser) - 1, run_browser);
    measure("the same written", sizeof(browser) - 1, run_write);
    return 0;
}
