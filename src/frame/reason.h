/* Reasons: the one enumerated table of why a stream, a request or a link ended.
 *
 * RESET and STOP frames carry the code; metrics, logs and the `X-Gimlet-Error` header carry the
 * name; answers made by the gateway carry the HTTP status and the sentence. Codes are wire format:
 * they are never renumbered, new ones are appended. Pure data, shared by all threads, never
 * changed. Source: frame/PROTOCOL.md section 9.
 */
#ifndef GM_FRAME_REASON_H
#define GM_FRAME_REASON_H

#include <stdint.h>

/* What a reason says about trying again. UNTOUCHED: when a peer ends a stream with it, no backend
 * was touched, so any request may be repeated; it is the default of the RESET flag of the same
 * name, and the flag in the frame decides. ELSEWHERE: another link may do better. */
#define GM_REASON_UNTOUCHED 0x01u
#define GM_REASON_ELSEWHERE 0x02u

/* X(constant, code, name, HTTP status, flags, sentence for users) */
#define GM_REASON_TABLE(X)                                                                         \
    X(NONE, 0, "none", 0, 0u, "No error.")                                                         \
    X(CANCELLED, 1, "cancelled", 499, 0u,                                                          \
      "The client closed the connection before the response was complete.")                        \
    X(REFUSED, 2, "refused", 503, GM_REASON_UNTOUCHED | GM_REASON_ELSEWHERE,                       \
      "The agent refused the request; it may be sent again.")                                      \
    X(AGENT_UNAVAILABLE, 3, "agent_unavailable", 503, GM_REASON_UNTOUCHED,                         \
      "No agent is connected for this service.")                                                   \
    X(AGENT_DISCONNECT, 4, "agent_disconnect", 502, GM_REASON_ELSEWHERE,                           \
      "The agent's connection was lost before the response was complete.")                         \
    X(BACKEND_CONNECT, 5, "backend_connect", 502, GM_REASON_UNTOUCHED | GM_REASON_ELSEWHERE,       \
      "The agent could not connect to the backend.")                                               \
    X(BACKEND_PROTOCOL, 6, "backend_protocol", 502, 0u,                                            \
      "The backend sent a response that is not valid HTTP.")                                       \
    X(BACKEND_CLOSED, 7, "backend_closed", 502, GM_REASON_ELSEWHERE,                               \
      "The backend closed its connection before the response was complete.")                       \
    X(BACKEND_TIMEOUT, 8, "backend_timeout", 504, 0u,                                              \
      "The backend did not begin its response in time.")                                           \
    X(TIMEOUT, 9, "timeout", 504, 0u,                                                              \
      "The response stood still for longer than the idle timeout.")                                \
    X(REQUEST_TIMEOUT, 10, "request_timeout", 408, 0u, "The request did not arrive in time.")      \
    X(OVERLOAD, 11, "overload", 503, GM_REASON_UNTOUCHED | GM_REASON_ELSEWHERE,                    \
      "The gateway has no capacity left for this request; try again shortly.")                     \
    X(RATE_LIMIT, 12, "rate_limit", 429, GM_REASON_UNTOUCHED,                                      \
      "Too many requests in too short a time; slow down.")                                         \
    X(AGENT_LIMIT, 13, "agent_limit", 429, GM_REASON_UNTOUCHED | GM_REASON_ELSEWHERE,              \
      "The agents of this service already serve as many requests as they accept.")                 \
    X(PROTOCOL_ERROR, 14, "protocol_error", 502, 0u,                                               \
      "The tunnel's peer broke the tunnel protocol.")                                              \
    X(FLOW_CONTROL, 15, "flow_control", 502, 0u,                                                   \
      "The tunnel's peer sent more bytes than it was granted.")                                    \
    X(DRAINING, 16, "draining", 503, GM_REASON_ELSEWHERE,                                          \
      "The gateway or the agent is shutting down.")                                                \
    X(INTERNAL, 17, "internal", 500, 0u, "The gateway failed to handle the request.")              \
    X(BAD_REQUEST, 18, "bad_request", 400, 0u, "The request is not valid HTTP.")                   \
    X(UNAUTHORIZED, 19, "unauthorized", 401, 0u, "The request carries no valid credential.")       \
    X(FORBIDDEN, 20, "forbidden", 403, 0u, "The credential does not permit this request.")         \
    X(NOT_FOUND, 21, "not_found", 404, 0u, "There is nothing at this address.")                    \
    X(METHOD_NOT_ALLOWED, 22, "method_not_allowed", 405, 0u,                                       \
      "The method is not allowed at this address.")                                                \
    X(EXPECTATION_FAILED, 23, "expectation_failed", 417, 0u,                                       \
      "The request's Expect field asks for something unknown.")                                    \
    X(PAYLOAD_TOO_LARGE, 24, "payload_too_large", 413, 0u,                                         \
      "The request body is larger than the limit.")                                                \
    X(HEADER_TOO_LARGE, 25, "header_too_large", 431, 0u,                                           \
      "The header fields are larger than the limit.")                                              \
    X(URI_TOO_LONG, 26, "uri_too_long", 414, 0u, "The request target is longer than the limit.")   \
    X(UPGRADE_REQUIRED, 27, "upgrade_required", 426, 0u,                                           \
      "This address speaks WebSocket only; send an upgrade request.")                              \
    X(NOT_IMPLEMENTED, 28, "not_implemented", 501, 0u,                                             \
      "The request asks for something the gateway does not implement.")                            \
    X(VERSION_NOT_SUPPORTED, 29, "version_not_supported", 505, 0u,                                 \
      "The HTTP version of the request is not supported.")

enum gm_reason_code {
#define GM_REASON_ENUM(constant, code, name, status, flags, text) GM_REASON_##constant = (code),
    GM_REASON_TABLE(GM_REASON_ENUM)
#undef GM_REASON_ENUM
        GM_REASON_COUNT
};

struct gm_reason {
    const char *name; /* lower case, [a-z_]; a metric label and a header value */
    const char *text; /* one sentence */
    uint16_t code;
    uint16_t status; /* HTTP status of an answer made for it; 0 for none */
    uint8_t flags;   /* GM_REASON_UNTOUCHED, GM_REASON_ELSEWHERE */
};

/* The row of a code. A code that this build does not know (a newer peer's) gives the row of
 * `internal`; never NULL. */
const struct gm_reason *gm_reason_get(uint16_t code);

#endif
