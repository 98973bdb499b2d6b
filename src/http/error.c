/*
 * The texts and statuses of the error table (http/error.h). Pure data.
 */
#include "http/error.h"

static const struct {
    int status;
    const char *name;
    const char *text;
} errors[] = {
#define GM_HTTP_ERROR_ROW(name, status, text) {status, #name, text},
    GM_HTTP_ERRORS(GM_HTTP_ERROR_ROW)
#undef GM_HTTP_ERROR_ROW
};

/* Position in the table, or -1. Negating INT_MIN is avoided by looking at the range first. */
static int error_index(int error)
{
    if (error < 0 && error > -GM_HTTP_E_END)
        error = -error;
    return error > GM_HTTP_E_FIRST && error < GM_HTTP_E_END ? error - GM_HTTP_E_FIRST - 1 : -1;
}

int gm_http_error_status(int error)
{
    int i = error_index(error);
    return i < 0 ? 500 : errors[i].status;
}

const char *gm_http_error_name(int error)
{
    int i = error_index(error);
    return i < 0 ? "UNKNOWN" : errors[i].name;
}

const char *gm_http_error_text(int error)
{
    int i = error_index(error);
    return i < 0 ? "unknown error" : errors[i].text;
}
