/*
 * Every way in which HTTP bytes (or a configured URL) can be wrong, in one table: code, the status
 * a client is answered with, one sentence for people. Returned negative (-GM_HTTP_E_x) by all of
 * http/. The numbers start above the kernel's errno range (4095), so that one int can carry either.
 * Pure data: any thread.
 */
#ifndef GM_HTTP_ERROR_H
#define GM_HTTP_ERROR_H

/* X(NAME, status to answer a request with, text). An error in a backend's response is a 502
 * whatever stands here. */
#define GM_HTTP_ERRORS(X)                                                                          \
    X(BARE_CR, 400, "a carriage return without a line feed")                                       \
    X(BARE_LF, 400, "a line feed without a carriage return")                                       \
    X(LEADING_LINES, 400, "too many empty lines before the request line")                          \
    X(METHOD, 400, "the method is not a token")                                                    \
    X(METHOD_TOO_LONG, 501, "the method is longer than any that is known")                         \
    X(REQUEST_LINE, 400, "the request line is not 'METHOD target HTTP/x.y'")                       \
    X(TARGET, 400, "the request target is not valid")                                              \
    X(TARGET_FORM, 400, "this form of request target does not go with the method")                 \
    X(TARGET_TOO_LONG, 414, "the request line is longer than the limit")                           \
    X(VERSION, 400, "the protocol version is not of the form HTTP/x.y")                            \
    X(VERSION_UNSUPPORTED, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here")                      \
    X(STATUS_LINE, 502, "the status line is not 'HTTP/x.y NNN reason'")                            \
    X(FIELD_NAME, 400, "a field name holds a byte that is not allowed there")                      \
    X(FIELD_NAME_SPACE, 400, "white space between a field name and its colon")                     \
    X(FIELD_NO_COLON, 400, "a field line without a colon")                                         \
    X(FIELD_FOLD, 400, "a field line that begins with white space (line folding)")                 \
    X(FIELD_VALUE, 400, "a control byte in a field value")                                         \
    X(FIELD_TOO_MANY, 431, "more fields than the limit")                                           \
    X(HEAD_TOO_LARGE, 431, "the head is larger than the limit")                                    \
    X(HOST_MISSING, 400, "an HTTP/1.1 request without Host")                                       \
    X(HOST_DUPLICATE, 400, "more than one Host")                                                   \
    X(HOST_INVALID, 400, "Host is not a host name with an optional port")                          \
    X(LENGTH_INVALID, 400, "Content-Length is not a plain number")                                 \
    X(LENGTH_DUPLICATE, 400, "more than one Content-Length")                                       \
    X(LENGTH_AND_CODING, 400, "both Content-Length and Transfer-Encoding")                         \
    X(CODING_INVALID, 400, "Transfer-Encoding is malformed or given more than once")               \
    X(CODING_UNKNOWN, 501, "a transfer coding other than chunked")                                 \
    X(CODING_VERSION, 400, "Transfer-Encoding in an HTTP/1.0 message")                             \
    X(BODY_FORBIDDEN, 400, "this method takes no body")                                            \
    X(CONNECTION_INVALID, 400,                                                                     \
      "Connection is not a list of tokens, or names a field that it must not")                     \
    X(UPGRADE_INVALID, 400, "Upgrade is malformed, missing or given more than once")               \
    X(EXPECT_UNKNOWN, 417, "an expectation other than 100-continue")                               \
    X(CREDENTIAL_DUPLICATE, 400, "more than one Authorization or Proxy-Authorization")             \
    X(CHUNK_SIZE, 400, "a chunk size is not a plain hexadecimal number")                           \
    X(CHUNK_TOO_LARGE, 400, "a chunk size is out of range")                                        \
    X(CHUNK_EXTENSION, 400, "a chunk extension is malformed or longer than the limit")             \
    X(CHUNK_END, 400, "a chunk's data is not followed by CRLF")                                    \
    X(TRAILER_FORBIDDEN, 400, "a trailer field that may only stand in a head")                     \
    X(TRAILER_TOO_LARGE, 431, "the trailers are larger than the limit")                            \
    X(OUT_SPACE, 500, "the output buffer is too small")                                            \
    X(OUT_UNSAFE, 500, "something to be written holds a byte that is not allowed there")           \
    X(SERVICE_PATH, 400, "Invalid path - expected /services/<service>/...")                        \
    X(SERVICE_NAME, 400, "the service name is malformed, too long or holds an encoded slash")      \
    X(URL_SCHEME, 400,                                                                             \
      "unknown scheme (accepted forms: http://host[:port][/prefix], unix:/path, ws://, wss://, "   \
      "https://)")                                                                                 \
    X(URL_SCHEME_REFUSED, 400, "this scheme cannot be used here")                                  \
    X(URL_USERINFO, 400, "a user name or password in a URL is not accepted")                       \
    X(URL_HOST, 400, "the host is missing or malformed (an IPv6 address goes in brackets)")        \
    X(URL_PORT, 400, "the port is not a number from 1 to 65535")                                   \
    X(URL_PATH, 400, "the path holds a byte that is not allowed in a URL")                         \
    X(URL_QUERY, 400, "a query or fragment has no place in this URL")                              \
    X(URL_SOCKET, 400, "unix: needs an absolute path of at most 107 bytes")

enum gm_http_error {
    GM_HTTP_E_NONE = 0,
    GM_HTTP_E_FIRST = 4999,
#define GM_HTTP_ERROR_ENUM(name, status, text) GM_HTTP_E_##name,
    GM_HTTP_ERRORS(GM_HTTP_ERROR_ENUM)
#undef GM_HTTP_ERROR_ENUM
        GM_HTTP_E_END
};

/* Status to answer a *request* with for a (negative or positive) code of the table; 500 for
 * anything else. */
int gm_http_error_status(int error);
/* Its name in the table, such as "BARE_CR" (for logs and tests), static; "UNKNOWN" for anything
 * else. */
const char *gm_http_error_name(int error);
/* One sentence for people, static; never NULL. */
const char *gm_http_error_text(int error);

#endif
