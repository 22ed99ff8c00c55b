/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_mesh.c - what other workers say, and strangers on a worker's port.
 *
 * The input is a list of messages: a byte that says from whom and of which
 * type, eleven numbers of one byte each for the fields, in the small range
 * where they mean something, and a payload. A transport that does nothing
 * carries them into a worker with a group and operations under way.
 */
#include "collective/coll_int.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORD  16u
#define WORKERS 3u
#define GROUP   5u

struct gp_endpoint {
    void *user;
};

static gp_endpoint ends[WORKERS + 1];
static uint8_t landing[GP_LANDING_SLOTS * GP_SLOT_LEAST];
static float values[3][2000];

static void
close_end(gp_endpoint *ep)
{
    ep->user = NULL;
}

static void
set_user(gp_endpoint *ep, void *user)
{
    ep->user = user;
}

static void
nothing(gp_endpoint *ep)
{
    (void)ep;
}

static void
describe(const gp_endpoint *ep, char *text, size_t capacity)
{
    (void)ep;
    if (capacity)
        text[0] = '\0';
}

static gp_status
take_memory(gp_domain *domain, void *base, size_t bytes, gp_mem **out)
{
    (void)domain, (void)bytes;
    *out = base;
    return GP_OK;
}

static void
drop_memory(gp_mem *mem)
{
    (void)mem;
}

static gp_status
expose(gp_endpoint *ep, gp_mem *mem, size_t offset, size_t bytes,
       uint32_t flags, uint32_t *token)
{
    (void)ep, (void)mem, (void)offset, (void)bytes;
    *token = flags ? 1 : 2;
    return GP_OK;
}

static void
unexpose(gp_endpoint *ep, uint32_t token)
{
    (void)ep, (void)token;
}

static gp_status
post(gp_endpoint *ep, const gp_msg *msg, const void *payload, gp_mem *mem,
     uint64_t cookie)
{
    (void)ep, (void)msg, (void)payload, (void)mem, (void)cookie;
    return GP_OK;
}

static gp_status
flush(gp_endpoint *ep)
{
    (void)ep;
    return GP_OK;
}

static void
release(gp_endpoint *ep, const gp_msg *msg, const void *payload)
{
    (void)ep, (void)msg, (void)payload;
}

static const gp_transport_ops silent = {.abi = GP_TRANSPORT_ABI,
                                        .name = "silent",
                                        .ep_close = close_end,
                                        .ep_set_user = set_user,
                                        .ep_trust = nothing,
                                        .ep_describe = describe,
                                        .mem_reg = take_memory,
                                        .mem_dereg = drop_memory,
                                        .expose = expose,
                                        .unexpose = unexpose,
                                        .post = post,
                                        .flush = flush,
                                        .release = release};

static void *
need(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);

    if (!p)
        abort();
    return p;
}

static gp_worker *
make_worker(void)
{
    static gp_driver *driver;
    gp_worker *w = need(1, sizeof(*w));

    if (!driver && gp_driver_create("fuzz", 0, 0, &driver) != GP_OK)
        abort();
    if (gp_config_create(&w->config) != GP_OK)
        abort();
    gp_log_set_level(GP_LOG_NONE);
    w->driver = driver;
    w->rank = 1;
    w->size = WORKERS;
    w->links = 1;
    w->link[0].ops = &silent;
    gp_list_init(&w->active);
    gp_list_init(&w->submitted);
    return w;
}

/* Connected to both others. */
static gp_mesh *
make_mesh(gp_worker *w)
{
    gp_mesh *mesh = need(1, sizeof(*mesh));

    gp_mesh_init(mesh, w);
    mesh->mate = need(WORKERS, sizeof(gp_mate *));
    mesh->address = need(WORKERS, GP_ADDRESS_MAX);
    for (uint32_t r = 0; r < WORKERS; r += 2) {
        gp_mate *mate = need(1, sizeof(*mate));

        *mate = (gp_mate){.mesh = mesh,
                          .rank = r,
                          .state = MATE_READY,
                          .via = &w->link[0],
                          .ep = &ends[r]};
        gp_list_init(&mate->link);
        mesh->mate[r] = mate;
        ends[r].user = (void *)((uintptr_t)mate | 1);
    }
    w->mesh = mesh;
    return mesh;
}

static gp_group *
make_group(gp_mesh *mesh)
{
    gp_group_options o = GP_GROUP_INIT;
    gp_group *g = NULL;

    o.algorithm = "ring";
    if (gp_group_new(mesh->worker, &o, &g) != GP_OK)
        abort();
    g->id = GROUP;
    g->slot_bytes = GP_SLOT_LEAST;
    gp_list_insert(&mesh->groups, &g->link);
    return g;
}

static gp_msg
message_of(const uint8_t *p, size_t payload)
{
    static const uint8_t types[] = {
        GP_MSG_GRANT,  GP_MSG_PIECE,       GP_MSG_INTO,   GP_MSG_TICKET,
        GP_MSG_CHECK,  GP_MSG_GROUP_FAULT, GP_MSG_RETURN, GP_MSG_HELLO,
        GP_MSG_BYE,    GP_MSG_FAULT,       GP_MSG_REFUSE, GP_MSG_CHALLENGE,
        GP_MSG_WELCOME};

    return (gp_msg){.type = types[(p[0] >> 2) % GP_COUNT_OF(types)],
                    .dtype = p[1],
                    .slot = p[2],
                    .step = p[3] | (p[4] & 0x80 ? GP_POINT_BIT : 0),
                    .chunk = p[4] & 0x7f,
                    .pipeline = p[5],
                    .elements = (uint64_t)p[6] << (p[7] & 15),
                    .cookie = p[8] & 7,
                    .region = p[9] & 3,
                    .offset = (uint64_t)p[2] * GP_SLOT_LEAST,
                    .aux = (uint64_t)p[10] << (p[11] & 63) | p[12],
                    .credits = (uint64_t)p[13] << (p[14] & 63),
                    .status = (int8_t)p[15],
                    .payload = payload};
}

static void
feed(gp_worker *w, const uint8_t *p, size_t payload)
{
    uint32_t from = p[0] & 3;
    gp_event event = {.type = GP_EVENT_MESSAGE,
                      .ep = &ends[from == 1 ? WORKERS : from % WORKERS],
                      .msg = message_of(p, payload),
                      .payload = p + RECORD};

    if (from == 3)
        event.type = p[1] & 1 ? GP_EVENT_CLOSED : GP_EVENT_ACCEPTED;
    if (event.type == GP_EVENT_ACCEPTED)
        event.ep = &ends[WORKERS];
    /* What a transport promises of data: it lies in what was exposed. */
    if (event.msg.region == 1)
        event.payload = landing;
    event.user = event.ep->user;
    if (event.type != GP_EVENT_ACCEPTED && !event.user)
        return;
    (void)gp_mesh_event(w, 0, &event);
    (void)gp_mesh_turn(w->mesh);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gp_worker *w = make_worker();
    gp_mesh *mesh = make_mesh(w);
    gp_group *g = make_group(mesh);
    gp_request *request;
    gp_status ignored;

    ignored =
        gp_allreduce(g, values[0], values[0], 2000, GP_FP32, GP_SUM, &request);
    ignored = gp_recv(g, values[1], sizeof(values[1]), 2, 3, &request);
    ignored = gp_send(g, values[2], sizeof(values[2]), 0, 3, &request);
    (void)ignored;
    (void)gp_mesh_turn(mesh);
    while (size >= RECORD) {
        size_t payload = GP_MIN((size_t)data[RECORD - 2] % 200, size - RECORD);

        feed(w, data, payload);
        data += RECORD + payload;
        size -= RECORD + payload;
    }
    gp_mesh_destroy(mesh);
    gp_config_destroy(w->config);
    free(w);
    return 0;
}
