// SPDX-License-Identifier: Apache-2.0
//
// emulate.cpp - our kernels compiled for the host, and the threads they run in.
// It is never compiled for the thread sanitizer, which does not follow threads
// that are coroutines, and takes minutes when told of each.
//
#define GP_EMULATE 1

#include "tests/gpu/emulate.h"

#include <cstdlib>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define GP_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GP_FIBERS 1
#endif
#endif
#ifdef GP_FIBERS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef __x86_64__
#include <ucontext.h>
#endif

#include "tests/gpu/emulated.h"

gp_emu_dim threadIdx, blockIdx, blockDim, gridDim;
unsigned char *gp_emu_shared;

namespace
{

enum { STACK = 65536, LEFT = 2048, WARP = 32 };

struct warp {
    unsigned live, arrived;
    uint64_t generation;
    uint64_t value[2][WARP];
};

// A thread that does not run, and how another takes its place. Blocks change
// threads millions of times, and swapcontext asks the kernel each time.
#ifdef __x86_64__
struct context {
    void *stack;
};

extern "C" void gp_emu_switch(void **from, void *to);

asm(".text\n"
    ".type gp_emu_switch, @function\n"
    "gp_emu_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size gp_emu_switch, . - gp_emu_switch\n");

// Six registers, and the function as if it had been called from nowhere.
void
prepare(context &c, unsigned char *stack, void (*entry)())
{
    uintptr_t top = ((uintptr_t)stack + STACK) & ~(uintptr_t)15;
    void **words = (void **)top - 8;

    memset(words, 0, 8 * sizeof(*words));
    words[6] = (void *)entry;
    c.stack = words;
}

void
change(context &from, context &to)
{
    gp_emu_switch(&from.stack, to.stack);
}
#else
using context = ucontext_t;

void
prepare(context &c, unsigned char *stack, void (*entry)())
{
    getcontext(&c);
    c.uc_stack.ss_sp = stack;
    c.uc_stack.ss_size = STACK;
    c.uc_link = nullptr;
    makecontext(&c, entry, 0);
}

void
change(context &from, context &to)
{
    swapcontext(&from, &to);
}
#endif

struct thread {
    context state;
    unsigned number;
    bool ended;
    void *fake_stack;
};

struct block {
    std::vector<thread> threads;
    std::vector<warp> warps;
    context scheduler;
    void *scheduler_fake;
    const void *scheduler_stack;
    size_t scheduler_bytes;
    thread *current;
    unsigned live, arrived;
    uint64_t generation;
    void (*call)(void **);
    void **args;
};

std::mutex launching;
std::vector<unsigned char> stacks; // kept: a new one costs more than a launch
block *now;

void
give_way(bool for_ever)
{
    thread *self = now->current;

    (void)for_ever;
#ifdef GP_FIBERS
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &self->fake_stack,
                                   now->scheduler_stack, now->scheduler_bytes);
#endif
    change(self->state, now->scheduler);
#ifdef GP_FIBERS
    __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
#endif
}

void
thread_main()
{
#ifdef GP_FIBERS
    __sanitizer_finish_switch_fiber(nullptr, &now->scheduler_stack,
                                    &now->scheduler_bytes);
#endif
    now->call(now->args);
    thread *self = now->current;
    warp &w = now->warps[self->number / WARP];
    self->ended = true;
    w.live &= ~(1u << self->number % WARP);
    now->live--;
    give_way(true);
}

// Runs one thread until it gives way.
void
resume(thread *t)
{
    now->current = t;
    threadIdx = {t->number, 0, 0};
#ifdef GP_FIBERS
    __sanitizer_start_switch_fiber(&now->scheduler_fake,
                                   &stacks[(size_t)t->number * STACK], STACK);
#endif
    change(now->scheduler, t->state);
#ifdef GP_FIBERS
    __sanitizer_finish_switch_fiber(now->scheduler_fake, nullptr, nullptr);
#endif
}

void
run_block(block &b, unsigned threads)
{
    b.live = threads;
    b.arrived = 0;
    b.warps.assign((threads + WARP - 1) / WARP, warp{});
    for (unsigned i = 0; i < threads; i++) {
        thread &t = b.threads[i];

        t.number = i;
        t.ended = false;
        t.fake_stack = nullptr;
#ifdef GP_FIBERS
        // Threads end without a return, in thread_main(): red zones of its
        // frame, and of what it calls last, stay.
        __asan_unpoison_memory_region(&stacks[(size_t)(i + 1) * STACK - LEFT],
                                      LEFT);
#endif
        prepare(t.state, &stacks[(size_t)i * STACK], thread_main);
        b.warps[i / WARP].live |= 1u << i % WARP;
    }
    // Who comes first between two barriers must not matter.
    for (bool back = false; b.live > 0; back = !back)
        for (unsigned i = 0; i < threads; i++) {
            thread *t = &b.threads[back ? threads - 1 - i : i];

            if (!t->ended)
                resume(t);
        }
}

} // namespace

void
gp_emu_sync_block(void)
{
    uint64_t mine = now->generation;

    now->arrived++;
    while (now->generation == mine) {
        // Who has ended is not waited for.
        if (now->arrived >= now->live) {
            now->arrived = 0;
            now->generation++;
            return;
        }
        give_way(false);
    }
}

const uint64_t *
gp_emu_exchange(unsigned mask, uint64_t value)
{
    warp &w = now->warps[now->current->number / WARP];
    uint64_t mine = w.generation;
    uint64_t *slot = w.value[mine & 1];

    if (w.arrived == 0)
        memset(slot, 0, sizeof(w.value[0]));
    slot[gp_emu_lane()] = value;
    w.arrived |= 1u << gp_emu_lane();
    while (w.generation == mine) {
        if ((w.arrived & mask & w.live) == (mask & w.live)) {
            w.arrived = 0;
            w.generation++;
            break;
        }
        give_way(false);
    }
    return slot;
}

unsigned
gp_emu_live(void)
{
    return now->warps[now->current->number / WARP].live;
}

// Blocks come in no order, from both ends here, and find no zeros.
static void
launch(void (*call)(void **), unsigned grid, unsigned threads, unsigned shared,
       void **args)
{
    std::lock_guard<std::mutex> guard(launching);
    std::vector<unsigned char> dynamic(shared + 16, 0xff);
    block b = {};

    b.threads.resize(threads);
    if (stacks.size() < (size_t)threads * STACK)
        stacks.resize((size_t)threads * STACK);
    b.call = call;
    b.args = args;
    now = &b;
    gp_emu_shared = dynamic.data() + (16 - (uintptr_t)dynamic.data() % 16) % 16;
    gridDim = {grid, 1, 1};
    blockDim = {threads, 1, 1};
    for (unsigned i = 0; i < grid; i++) {
        blockIdx = {i % 2 ? i / 2 : grid - 1 - i / 2, 0, 0};
        run_block(b, threads);
    }
    now = nullptr;
}

// Calls a kernel with arguments behind pointers, as the driver does.
template <typename... A, size_t... I>
static void
spread(void (*kernel)(A...), void **args, std::index_sequence<I...>)
{
    kernel(*static_cast<A *>(args[I])...);
}

template <typename... A>
static void
call_with(void (*kernel)(A...), void **args)
{
    spread(kernel, args, std::index_sequence_for<A...>{});
}

#include "compress/cuda/blocks.cu"
#include "compress/cuda/cast.cu"
#include "compress/cuda/draw.cu"
#include "compress/cuda/eden.cu"
#include "compress/cuda/finish.cu"
#include "compress/cuda/kth.cu"
#include "compress/cuda/intsum.cu"
#include "compress/cuda/lowrank.cu"
#include "compress/cuda/natural.cu"
#include "compress/cuda/norm.cu"
#include "compress/cuda/q8.cu"
#include "compress/cuda/random.cu"
#include "compress/cuda/rotate.cu"
#include "compress/cuda/select.cu"
#include "compress/cuda/sign.cu"
#include "compress/cuda/thc.cu"
#include "compress/cuda/unselect.cu"
#include "compress/cuda/unuq.cu"
#include "compress/cuda/update.cu"
#include "compress/cuda/uq.cu"
#include "compress/cuda/zeros.cu"
#include "examples/trainer/cuda/kernels.cu"

template <typename... A>
static gp_emulated
describe(const char *name, void (*call)(void **), void (*)(A...))
{
    gp_emulated out = {name, call, sizeof...(A), {sizeof(A)...}};

    static_assert(sizeof...(A) <= GP_EMULATED_ARGS, "too many arguments");
    static_assert(((sizeof(A) <= 8) && ...), "arguments are words");
    return out;
}

extern "C" const gp_emulated gp_emulated_kernels[] = {
#define GT_KERNEL(name) \
    describe(           \
        #name, [](void **a) { call_with(name, a); }, name),
#define GP_KERNEL(file, name) GT_KERNEL(name)
#include "examples/trainer/cuda/kernels.def"
#include "lib/device/kernels.def"
#undef GT_KERNEL
#undef GP_KERNEL
    {nullptr, nullptr, 0, {}},
};

extern "C" void
gp_emulate(const gp_emulated *kernel, unsigned grid, unsigned threads,
           unsigned shared, void **args)
{
    launch(kernel->call, grid, threads, shared, args);
}
