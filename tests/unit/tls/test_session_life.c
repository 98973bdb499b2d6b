/* The life of a session behind the handshake: keys renewed, tickets, the end, the cut, and what a
 * peer may not do. */
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const struct plan plain_plan;

static int open_all(struct end *end)
{
    struct gm_tls_io io = end_io(end);
    return gm_tls_open(end->tls, &io);
}

static void rekey(struct end *from, bool ask)
{
    struct gm_tls_io io = end_io(from);
    cr_assert_eq(gm_tls_rekey(from->tls, ask, &io.sink), 0);
}

/* Drops what was opened, which must be nothing. */
static void settle(struct end *from, struct end *to)
{
    carry(from, to);
    cr_assert_eq(open_all(to), 0);
    cr_assert_eq(to->plain.bytes, 0);
}

Test(life, keys_are_renewed_from_either_side, .timeout = 60)
{
    for (unsigned mix = 0; mix < 12; mix++) {
        static const char *const suites[] = {"TLS13-AES128-GCM-SHA256", "TLS13-AES256-GCM-SHA384",
                                             "TLS13-CHACHA20-POLY1305-SHA256"};
        world.client_reference = (mix & 1) != 0;
        world.server_reference = (mix & 2) != 0;
        world.suites = suites[mix / 4];
        world.cut = CUT_RANDOM;
        cr_assert(world_meet(&plain_plan, "example.test"));
        settle(&world.s, &world.c); /* the ticket */
        for (uint32_t i = 0; i < 5; i++) {
            struct end *from = i % 2 == 0 ? &world.c : &world.s;
            struct end *to = i % 2 == 0 ? &world.s : &world.c;
            rekey(from, i >= 2);
            settle(from, to);
            talk(from, to, 5000, i);
            settle(to, from); /* its own update, when it was asked */
            talk(to, from, 5000, i + 9);
        }
        world_end();
    }
}

Test(life, a_flow_renews_its_keys_before_they_wear_out, .fini = world_end)
{
    need_own_records();
    cr_assert(world_meet(&plain_plan, "example.test"));
    talk(&world.c, &world.s, 10, 1);
    /* As far as the limit, without sending 2^24 records. The sequence is the flow's first field. */
    uint64_t worn = GM_TLS_REKEY_RECORDS - 2;
    memcpy(world.c.tls->tx, &worn, sizeof worn);
    memcpy(world.s.tls->rx, &worn, sizeof worn);
    cr_assert_eq(gm_tls_flow_sequence(world.c.tls->tx), worn);
    talk(&world.c, &world.s, 100000, 2);
    cr_assert(gm_tls_flow_sequence(world.c.tls->tx) < 10);
    talk(&world.c, &world.s, 100, 3);
}

Test(life, an_end_is_told_from_a_cut, .timeout = 60)
{
    for (unsigned mix = 0; mix < 8; mix++) {
        world.client_reference = (mix & 1) != 0;
        world.server_reference = (mix & 2) != 0;
        world.tls12 = (mix & 4) != 0;
        cr_assert(world_meet(&plain_plan, "example.test"));
        struct gm_tls_io io = end_io(&world.c);
        struct gm_chain plain = {0};
        put_plain(&plain, 100, 1);
        cr_assert_eq(gm_tls_seal(world.c.tls, &plain, 100, &io.sink), 100);
        cr_assert_eq(gm_tls_close_notify(world.c.tls, &io.sink), 0);
        size_t out = world.c.out.bytes;
        cr_assert_eq(gm_tls_close_notify(world.c.tls, &io.sink), 0);
        cr_assert_eq(world.c.out.bytes, out, "once");
        put_plain(&plain, 1, 1);
        cr_assert_eq(gm_tls_seal(world.c.tls, &plain, 1, &io.sink), -GM_E_TLS);
        gm_chain_clear(&plain, world_segs());
        carry(&world.c, &world.s);
        cr_assert_eq(open_all(&world.s), 1, "mix %u", mix);
        expect_plain(&world.s.plain, 100, 1);
        cr_assert_eq(open_all(&world.s), 1);
        if (!world.tls12) /* our direction goes on: RFC 8446 section 6.1 */
            talk(&world.s, &world.c, 500, 2);
        world_end();
    }
}

Test(life, a_damaged_record_ends_the_session_with_an_alert, .timeout = 60)
{
    for (unsigned mix = 0; mix < 4; mix++) {
        world.client_reference = (mix & 1) != 0;
        world.tls12 = (mix & 2) != 0;
        cr_assert(world_meet(&plain_plan, "example.test"));
        settle(&world.s, &world.c);
        struct gm_tls_io io = end_io(&world.c);
        struct gm_chain plain = {0};
        put_plain(&plain, 100, 1);
        put_plain(&plain, 100, 2);
        cr_assert_eq(gm_tls_seal(world.c.tls, &plain, 100, &io.sink), 100);
        carry(&world.c, &world.s);
        cr_assert_eq(gm_tls_seal(world.c.tls, &plain, 100, &io.sink), 100);
        gm_chain_front(&world.c.out).data[40] ^= 1;
        carry(&world.c, &world.s);
        cr_assert_eq(open_all(&world.s), -GM_E_TLS_RECORD);
        expect_plain(&world.s.plain, 100, 1); /* what came before it is good */
        cr_assert_eq(open_all(&world.s), -GM_E_TLS, "nothing more is opened");
        carry(&world.s, &world.c);
        cr_assert_eq(open_all(&world.c), -GM_E_TLS_ALERT, "mix %u", mix);
        world_end();
    }
}

static void impossible(struct end *to, const char *bytes, size_t len)
{
    world.cut = 0;
    arrive(to, bytes, len);
    int rc = open_all(to);
    cr_assert_eq(rc, -GM_E_TLS_RECORD, "%d, %s, for %02x %02x", rc, gm_error_text(rc),
                 (unsigned char)bytes[0], (unsigned char)bytes[len - 1]);
    world_end();
}

Test(life, what_is_no_record_is_refused)
{
    for (unsigned mix = 0; mix < 2; mix++) {
        world.tls12 = mix == 1;
        cr_assert(world_meet(&plain_plan, "example.test"));
        impossible(&world.s, "GET / HTTP/1.1\r\n", 16);
        cr_assert(world_meet(&plain_plan, "example.test"));
        impossible(&world.s, "\x17\x03\x03\xff\xff", 5);
        cr_assert(world_meet(&plain_plan, "example.test"));
        impossible(&world.s, "\x17\x03\x03\0\1\0", 6);
        cr_assert(world_meet(&plain_plan, "example.test"));
        impossible(&world.s, "\x14\x03\x03\0\1\1", 6);
    }
}

/* Sends a record of any type as the peer of `to`. */
static void say(struct end *from, struct end *to, enum gm_tls_content type, const char *bytes,
                uint32_t len)
{
    struct gm_tls_io io = end_io(from);
    struct gm_chain chain = {0};
    gm_slice slice = {(uint8_t *)(uintptr_t)bytes, len, NULL};
    cr_assert_eq(gm_chain_push(&chain, world_segs(), slice), 0);
    cr_assert_eq(gm_tls_record_seal(from->tls->tx, type, &chain, len, &io.sink), 0);
    carry(from, to);
}

static const struct {
    bool tls12, to_client;
    enum gm_tls_content type;
    const char *bytes;
    uint32_t len;
    int rc;
} sayings[] = {
    /* Alerts. */
    {false, false, GM_TLS_ALERT, "\1\x5a", 2, 0}, /* user_canceled */
    {false, false, GM_TLS_ALERT, "\1\0", 2, 1},
    {false, false, GM_TLS_ALERT, "\2\x50", 2, -GM_E_TLS_ALERT},
    {false, false, GM_TLS_ALERT, "\1\x50", 2, -GM_E_TLS_ALERT}, /* 1.3 knows no warnings */
    {true, false, GM_TLS_ALERT, "\1\x64", 2, 0},
    {true, false, GM_TLS_ALERT, "\2\x64", 2, -GM_E_TLS_ALERT},
    {false, true, GM_TLS_ALERT, "\2\x74", 2, -GM_E_TLS_NO_CERT},
    {false, true, GM_TLS_ALERT, "\2\x30", 2, -GM_E_TLS_UNTRUSTED},
    {false, false, GM_TLS_ALERT, "\2", 1, -GM_E_TLS_RECORD},
    {false, false, GM_TLS_ALERT, "\2\0\0", 3, -GM_E_TLS_RECORD},
    /* Key updates. */
    {false, false, GM_TLS_HANDSHAKE, "\x18\0\0\1\0", 5, 0},
    {false, false, GM_TLS_HANDSHAKE, "\x18\0\0\1\2", 5, -GM_E_TLS_RECORD},
    {false, false, GM_TLS_HANDSHAKE, "\x18\0\0\2\0\0", 6, -GM_E_TLS_RECORD},
    {false, false, GM_TLS_HANDSHAKE, "\x18\0\0\1\0\x18", 6, -GM_E_TLS_RECORD},
    {true, false, GM_TLS_HANDSHAKE, "\x18\0\0\1\0", 5, -GM_E_TLS_RECORD},
    /* Tickets, for clients only. */
    {false, true, GM_TLS_HANDSHAKE, "\4\0\0\3abc", 7, 0},
    {false, true, GM_TLS_HANDSHAKE, "\4\0\0\3abc\4\0\0\1a\4", 13, 0},
    {false, true, GM_TLS_HANDSHAKE, "\4\xff\0\3abc", 7, -GM_E_TLS_RECORD},
    {false, false, GM_TLS_HANDSHAKE, "\4\0\0\3abc", 7, -GM_E_TLS_RECORD},
    /* Authentication asked for afterwards, a second hello, a second Finished. */
    {false, true, GM_TLS_HANDSHAKE, "\x0d\0\0\3abc", 7, -GM_E_TLS_RECORD},
    {false, false, GM_TLS_HANDSHAKE, "\1\0\0\3abc", 7, -GM_E_TLS_RECORD},
    {false, false, GM_TLS_HANDSHAKE, "\x14\0\0\3abc", 7, -GM_E_TLS_RECORD},
    {true, true, GM_TLS_HANDSHAKE, "\4\0\0\3abc", 7, -GM_E_TLS_RECORD},
    {true, true, GM_TLS_HANDSHAKE, "\0\0\0\1a", 5, -GM_E_TLS_RECORD},
    {true, false, GM_TLS_CHANGE_CIPHER_SPEC, "\1", 1, -GM_E_TLS_RECORD},
};

Test(life, what_comes_between_payload_is_judged, .timeout = 60)
{
    need_own_records();
    for (size_t i = 0; i < sizeof sayings / sizeof sayings[0]; i++) {
        world.tls12 = sayings[i].tls12;
        cr_assert(world_meet(&plain_plan, "example.test"));
        settle(&world.s, &world.c);
        struct end *to = sayings[i].to_client ? &world.c : &world.s;
        struct end *from = sayings[i].to_client ? &world.s : &world.c;
        say(from, to, sayings[i].type, sayings[i].bytes, sayings[i].len);
        int rc = open_all(to);
        cr_assert_eq(rc, sayings[i].rc, "saying %zu: %d", i, rc);
        world_end();
    }
}

Test(life, a_message_may_come_in_pieces_but_not_be_interrupted)
{
    need_own_records();
    cr_assert(world_meet(&plain_plan, "example.test"));
    settle(&world.s, &world.c);
    static const char ticket[] = "\4\0\0\5abcde\4\0\0\0\4\0\0\1x";
    for (size_t i = 0; i + 1 < sizeof ticket; i++) {
        say(&world.s, &world.c, GM_TLS_HANDSHAKE, ticket + i, 1);
        cr_assert_eq(open_all(&world.c), 0);
    }
    talk(&world.s, &world.c, 100, 1);
    say(&world.c, &world.s, GM_TLS_HANDSHAKE, "\x18\0", 2);
    cr_assert_eq(open_all(&world.s), 0);
    say(&world.c, &world.s, GM_TLS_DATA, "x", 1);
    cr_assert_eq(open_all(&world.s), -GM_E_TLS_RECORD);
    cr_assert_eq(world.s.plain.bytes, 0);
    world_end();
}

Test(life, renegotiation_is_refused_and_life_goes_on)
{
    need_own_records();
    world.tls12 = true;
    cr_assert(world_meet(&plain_plan, "example.test"));
    say(&world.c, &world.s, GM_TLS_HANDSHAKE, "\1\0\0\3abc", 7);
    cr_assert_eq(open_all(&world.s), 0);
    cr_assert(world.s.out.bytes > 0, "a no_renegotiation alert");
    settle(&world.s, &world.c);
    talk(&world.s, &world.c, 100, 1);
    say(&world.s, &world.c, GM_TLS_HANDSHAKE, "\0\0\0\0", 4);
    cr_assert_eq(open_all(&world.c), 0);
    settle(&world.c, &world.s);
    talk(&world.c, &world.s, 100, 1);
    world_end();
}

/* A peer that says nothing with many records is stopped, whatever it says it with. */
Test(life, records_without_payload_are_counted)
{
    need_own_records();
    static const char *const words[] = {"\x18\0\0\1\0", "\1\x5a"};
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(world_meet(&plain_plan, "example.test"));
        int rc = 0;
        for (unsigned n = 0; n < 100 && rc == 0; n++) {
            if (i == 0)
                rekey(&world.c, true);
            else
                say(&world.c, &world.s, GM_TLS_ALERT, words[i], 2);
            carry(&world.c, &world.s);
            rc = open_all(&world.s);
            cr_assert(n < 32 ? rc == 0 : rc == -GM_E_TLS_RECORD, "%u: %d", n, rc);
        }
        world_end();
    }
}

Test(life, without_blocks_nothing_is_lost, .timeout = 60)
{
    for (unsigned reference = 0; reference < 2; reference++) {
        world.client_reference = reference == 1;
        world.block_bytes = 300;
        cr_assert(world_meet(&plain_plan, "example.test"));
        settle(&world.s, &world.c);
        struct gm_tls_io io = end_io(&world.c);
        struct gm_chain plain = {0};
        size_t left = 50000;
        put_plain(&plain, left, 7);
        for (unsigned turn = 0; left > 0; turn++) {
            cr_assert(turn < 2000, "reference %u: %zu left, %u held", reference, left,
                      world.c.tls->held_len);
            world.blocks_left = turn % 9;
            ssize_t n = gm_tls_seal(world.c.tls, &plain, SIZE_MAX, &io.sink);
            cr_assert(n >= 0);
            left -= (size_t)n;
        }
        while (world.c.tls->held_len > 0) {
            world.blocks_left = 3;
            cr_assert_eq(gm_tls_seal(world.c.tls, &plain, 0, &io.sink), 0);
        }
        world.blocks_left = NO_LIMIT;
        carry(&world.c, &world.s);
        cr_assert_eq(open_all(&world.s), 0);
        expect_plain(&world.s.plain, 50000, 7);
        world_end();
    }
}

/* Whoever has sealed without blocks must see that something is left, or would never come back. */
Test(life, what_the_library_holds_stays_in_its_chain)
{
    world.client_reference = true;
    cr_assert(world_meet(&plain_plan, "example.test"));
    settle(&world.s, &world.c);
    struct gm_tls_io io = end_io(&world.c);
    struct gm_chain plain = {0};
    put_plain(&plain, 1000, 3);
    world.blocks_left = 0;
    for (int again = 0; again < 3; again++) {
        cr_assert_eq(gm_tls_seal(world.c.tls, &plain, SIZE_MAX, &io.sink), 0);
        cr_assert_eq(plain.bytes, 1000);
        cr_assert_eq(world.c.out.bytes, 0);
    }
    world.blocks_left = NO_LIMIT;
    cr_assert_eq(gm_tls_seal(world.c.tls, &plain, SIZE_MAX, &io.sink), 1000);
    cr_assert_eq(plain.count, 0);
    carry(&world.c, &world.s);
    cr_assert_eq(open_all(&world.s), 0);
    expect_plain(&world.s.plain, 1000, 3);
    world_end();
}

/* The ticket of one session lets the next one in without certificates; the client is the
 * library's, as ours keeps no tickets. */
static void resume(bool tls12, const struct plan *plan, bool expected)
{
    world.tls12 = tls12;
    world.client_reference = true;
    world_plan(plan);
    world_start("example.test");
    cr_assert_eq(wolfSSL_UseSessionTicket(world.c.tls->ssl), WOLFSSL_SUCCESS);
    cr_assert(world_shake());
    talk(&world.s, &world.c, 10, 1);
    WOLFSSL_SESSION *session = wolfSSL_get1_session(world.c.tls->ssl);
    cr_assert_not_null(session);
    world_start("example.test");
    cr_assert_eq(wolfSSL_UseSessionTicket(world.c.tls->ssl), WOLFSSL_SUCCESS);
    cr_assert_eq(wolfSSL_set_session(world.c.tls->ssl, session), WOLFSSL_SUCCESS);
    cr_assert(world_shake(), "%d %d", world.c.result, world.s.result);
    cr_assert_eq(gm_tls_facts(world.s.tls).resumed, expected);
    cr_assert_eq(gm_tls_facts(world.c.tls).resumed, expected);
    talk(&world.s, &world.c, 1000, 1);
    talk(&world.c, &world.s, 1000, 2);
    wolfSSL_SESSION_free(session);
    world_end();
}

Test(life, tickets_resume)
{
    for (unsigned i = 0; i < 2; i++)
        resume(i == 1, &plain_plan, true);
}

Test(life, tickets_are_off_where_clients_show_certificates)
{
    struct plan plan = {.client_ca = CERT("root.crt"),
                        .client_auth = GM_TLS_CLIENTS_REQUIRED,
                        .client_cert = CERT("client.crt"),
                        .client_key = CERT("client.key")};
    world.client_reference = true;
    cr_assert(world_meet(&plan, "example.test"));
    cr_assert_eq(world.s.out.bytes + world.c.in.bytes, 0, "no ticket came");
    cr_assert_str_eq(gm_tls_facts(world.s.tls).peer_subject, "CN=agent-1,O=Example");
    world_end();
}
