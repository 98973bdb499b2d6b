/* Memory by the page, from the kernel: zero, and there only once it is touched, so that a table may
 * be as large as it can ever become. Any thread.
 *
 * Not for what is small. calloc() would do as long as it maps: once such a block has been freed, it
 * takes the next one from the heap and writes zeros over all of it. */
#ifndef GM_BASE_PAGES_H
#define GM_BASE_PAGES_H

#include <stddef.h>

/* At least `bytes` zero bytes (> 0), aligned to a page, the caller's until gm_pages_unmap; NULL:
 * there are none. */
void *gm_pages_map(size_t bytes);
/* With the same `bytes`. NULL is accepted. */
void gm_pages_unmap(void *pages, size_t bytes);

#endif
