/* Fuzzes the reader of server names: over any cut the same answer, and never a name that no host
 * can have; one in crumbs can be joined. Input: cut (1 byte), then the wire. */
#include <stdlib.h>
#include <string.h>

#include "tls/hello.h"

#define SEGS 4096u

static _Alignas(8) char seg_memory[SEGS * sizeof(struct gm_seg)];
static struct gm_seg_pool segs;

static uint8_t *pieces[SEGS * 8];

/* A hello in crumbs becomes one record that says the same, and takes no more than its own. */
static void check_join(struct gm_chain *in, const struct gm_tls_hello *hello)
{
    uint32_t joined_len;
    size_t before = in->bytes;
    uint8_t *joined = gm_tls_hello_join(in, &segs, &joined_len);
    GM_ASSERT(joined != NULL && joined_len >= 9 && in->bytes + joined_len < before);
    struct gm_chain again = {0};
    struct gm_tls_hello same;
    GM_ASSERT(gm_chain_push(&again, &segs, (gm_slice){joined, joined_len, NULL}) == 0);
    GM_ASSERT(gm_tls_hello_peek(&again, &same) == 1 && !same.headless);
    GM_ASSERT(strcmp(same.name, hello->name) == 0);
    gm_chain_clear(&again, &segs);
    free(joined);
}

static int peek(const uint8_t *bytes, size_t len, size_t cut, struct gm_tls_hello *out)
{
    struct gm_chain in = {0};
    size_t count = 0;
    for (size_t at = 0; at < len; at += cut) {
        uint32_t n = (uint32_t)(len - at < cut ? len - at : cut);
        uint8_t *exact = malloc(n);
        GM_ASSERT(exact != NULL && count < sizeof pieces / sizeof pieces[0]);
        memcpy(exact, bytes + at, n);
        pieces[count++] = exact;
        int rc = gm_chain_push(&in, &segs, (gm_slice){exact, n, NULL});
        GM_ASSERT(rc == 0);
    }
    int rc = gm_tls_hello_peek(&in, out);
    GM_ASSERT(in.bytes == len);
    if (rc == 1 && out->headless)
        check_join(&in, out);
    gm_chain_clear(&in, &segs);
    while (count > 0)
        free(pieces[--count]);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct gm_tls_hello whole, cut;
    char normal[GM_TLS_NAME_BYTES];
    if (n < 2 || n > 20000)
        return 0;
    gm_seg_pool_init(&segs, seg_memory, sizeof seg_memory);
    int rc = peek(p + 1, n - 1, n, &whole);
    GM_ASSERT(rc <= 1 && (rc != 0 || whole.missing > 0));
    GM_ASSERT(peek(p + 1, n - 1, 1 + p[0] + n / 8192, &cut) == rc);
    GM_ASSERT(rc != 1 || strcmp(whole.name, cut.name) == 0);
    GM_ASSERT(whole.name[0] == '\0' || gm_tls_name_normal(whole.name, strlen(whole.name), normal));
    return 0;
}
