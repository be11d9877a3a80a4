// Threads of a block as fibers: each runs until it waits for its warp or its block.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
// Switching by ucontext works everywhere and costs two system calls; x86-64 has its own.
#if defined(__x86_64__) && !defined(QC_EMU_UCONTEXT)
#define QC_EMU_OWN_SWITCH
#else
#include <ucontext.h>
#endif

#include "state.h"

namespace emulator {

Launch launch;
std::vector<Thread> threads;
Thread *current;
std::vector<uint32_t> warp_epoch;
uint32_t block_epoch;
std::string message;

static const size_t STACK = 64 * 1024;
static const unsigned MOST_THREADS = 1024;
static char *stacks;

bool on_a_stack(const void *address)
{
    const char *p = (const char *)address;
    return p >= stacks && p < stacks + STACK * MOST_THREADS;
}

static void thread_main();

#ifdef QC_EMU_OWN_SWITCH
extern "C" void qc_emu_switch(void **save, void *load);
asm(".text\n.globl qc_emu_switch\n.hidden qc_emu_switch\n.type qc_emu_switch,@function\n"
    "qc_emu_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");

static void *scheduler_stack;

static void to_thread(Thread &t) { qc_emu_switch(&scheduler_stack, t.stack_pointer); }
static void to_scheduler() { qc_emu_switch(&current->stack_pointer, scheduler_stack); }

static void prepare(Thread &t)
{
    // Six saved registers, then the address to return to; the stack is as a call leaves it.
    void **top = (void **)(stacks + STACK * (t.number + 1)) - 2;
    *top = (void *)thread_main;
    memset(top - 6, 0, 6 * sizeof(void *));
    t.stack_pointer = top - 6;
}
#else
static ucontext_t scheduler_context, contexts[MOST_THREADS];

static void to_thread(Thread &t) { swapcontext(&scheduler_context, &contexts[t.number]); }
static void to_scheduler() { swapcontext(&contexts[current->number], &scheduler_context); }

static void prepare(Thread &t)
{
    ucontext_t &c = contexts[t.number];
    getcontext(&c);
    c.uc_stack.ss_sp = stacks + STACK * t.number;
    c.uc_stack.ss_size = STACK;
    c.uc_link = nullptr;
    makecontext(&c, thread_main, 0);
}
#endif

static void thread_main()
{
    launch.body(launch.parameters);
    for (auto &group : current->groups)
        if (!group.empty())
            fail("ends while asynchronous copies are under way: wait for them");
    current->wait = Wait::finished;
    to_scheduler();
    __builtin_unreachable();
}

std::string thread_name(unsigned number)
{
    const uint3 i = threads[number].index, b = launch.at;
    char text[120];
    snprintf(text, sizeof text, "thread (%u,%u,%u) of block (%u,%u,%u)", i.x, i.y, i.z, b.x, b.y, b.z);
    return text;
}

void fail(const std::string &what)
{
    if (message.empty())
        message = std::string("kernel ") + launch.kernel + ": " + thread_name(current->number) + " " + what;
    current->wait = Wait::finished;
    to_scheduler();
    __builtin_unreachable();
}

static void wait(Wait for_what)
{
    current->wait = for_what;
    to_scheduler();
}

void meet_warp(Collective what)
{
    current->collective = what;
    wait(Wait::warp);
}

// Let the lanes of a warp run until none can go on without other warps.
static void run_warp(unsigned warp)
{
    Thread *lanes = &threads[warp * 32];
    unsigned count = (unsigned)threads.size() - warp * 32;
    if (count > 32)
        count = 32;
    for (;;) {
        unsigned meeting = 0, left = 0;
        for (unsigned i = 0; i < count; i++) {
            if (lanes[i].wait == Wait::none) {
                current = &lanes[i];
                to_thread(lanes[i]);
                if (!message.empty())
                    return;
            }
            meeting += lanes[i].wait == Wait::warp;
            left += lanes[i].wait == Wait::finished;
        }
        if (meeting == 0)
            return;
        for (unsigned i = 0; i < count; i++) {
            current = &lanes[i];
            if (lanes[i].wait != Wait::warp || lanes[i].collective != lanes[0].collective || count < 32) {
                message = std::string("kernel ") + launch.kernel + ": a warp-wide instruction was reached by " +
                          std::to_string(meeting) + " lanes of the warp of " + thread_name(lanes[0].number) + ", " +
                          std::to_string(left) + " have ended; all 32 must reach the same one";
                return;
            }
        }
        compute(lanes[0].collective, lanes);
        if (!message.empty())
            return;
        for (unsigned i = 0; i < 32; i++)
            lanes[i].wait = Wait::none;
    }
}

static void run_block()
{
    unsigned n = 0;
    block_epoch = 1;
    warp_epoch.assign((threads.size() + 31) / 32, 1);
    for (Thread &t : threads) {
        t.number = n;
        t.index = {n % launch.block.x, n / launch.block.x % launch.block.y, n / (launch.block.x * launch.block.y)};
        t.wait = Wait::none;
        t.groups.assign(1, {});
        prepare(t);
        n++;
    }
    begin_block();
    for (;;) {
        for (unsigned w = 0; w < warp_epoch.size() && message.empty(); w++)
            run_warp(w);
        if (!message.empty())
            return;
        bool waiting = false;
        for (Thread &t : threads)
            waiting |= t.wait == Wait::block;
        if (!waiting)
            return;
        for (Thread &t : threads) {
            if (t.wait == Wait::finished) {
                message = std::string("kernel ") + launch.kernel + ": " + thread_name(t.number) +
                          " has ended while others wait at __syncthreads";
                return;
            }
            t.wait = Wait::none;
        }
        block_epoch++;
        for (uint32_t &epoch : warp_epoch)
            epoch++;
    }
}

}  // namespace emulator

using namespace emulator;

extern "C" {

uint3 qc_emu_thread_index(void) { return current->index; }
uint3 qc_emu_block_index(void) { return launch.at; }
uint3 qc_emu_block_size(void) { return launch.block; }
uint3 qc_emu_grid_size(void) { return launch.grid; }
void qc_emu_sync_threads(void) { wait(Wait::block); }
void qc_emu_sync_warp(void) { meet_warp(Collective::sync); }

// Rows of matrix loads that had to wait for a bank of shared memory, since the library was loaded.
__attribute__((visibility("default"))) uint64_t qc_emu_bank_conflicts(void) { return bank_conflicts; }

// Run a kernel over its grid. 0 if all is well, else 1 and the first error in `text`.
__attribute__((visibility("default")))
int qc_emu_launch(void (*body)(const void *), const char *kernel, const uint32_t *grid, const uint32_t *block,
                  const void *parameters, int64_t parameter_bytes, Window *windows, int window_count, char *text, int room)
{
    if (stacks == nullptr) {
        void *got = mmap(nullptr, STACK * MOST_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (got == MAP_FAILED) {
            snprintf(text, room, "no memory for the stacks of %u threads", MOST_THREADS);
            return 1;
        }
        stacks = (char *)got;
    }
    const unsigned count = block[0] * block[1] * block[2];
    if (count == 0 || count > MOST_THREADS) {
        snprintf(text, room, "kernel %s: a block has 1 to %u threads, not %u", kernel, MOST_THREADS, count);
        return 1;
    }
    launch = {kernel, body, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, {0, 0, 0},
              (const char *)parameters, parameter_bytes, windows, window_count};
    threads.resize(count);
    message.clear();
    begin_launch();
    for (unsigned z = 0; z < grid[2] && message.empty(); z++)
        for (unsigned y = 0; y < grid[1] && message.empty(); y++)
            for (unsigned x = 0; x < grid[0] && message.empty(); x++) {
                launch.at = {x, y, z};
                run_block();
            }
    if (message.empty())
        end_launch();
    snprintf(text, room, "%s", message.c_str());
    return !message.empty();
}
}
