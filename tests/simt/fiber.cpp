// The switch between stacks: twenty instructions on x86-64, ucontext elsewhere.
// SPDX-License-Identifier: Apache-2.0
#include "simt/fiber.hpp"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#ifdef SIMT_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
extern "C" void simt_switch_stacks(void** save, void* load);
asm(R"(
.text
.globl simt_switch_stacks
.type simt_switch_stacks, @function
simt_switch_stacks:
  endbr64
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size simt_switch_stacks, .-simt_switch_stacks
)");
#endif

namespace simt {

struct Fibers::Context {
  Entry entry = nullptr;
  char* bottom = nullptr;
  std::size_t bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
#if defined(__x86_64__)
  void* top = nullptr;
#else
  ucontext_t context{};
#endif
};

namespace {
Fibers* active = nullptr;  // whose fiber runs: fibers are one thread's business
}

Fibers::Fibers(int count) : home_(new Context) {
  void* memory = mmap(nullptr, static_cast<std::size_t>(count) * stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  stacks_ = static_cast<char*>(memory);
  for (int i = 0; i < count; ++i) {
    auto* context = new Context;
    char* guard = stacks_ + static_cast<std::size_t>(i) * stack_bytes;
    if (mprotect(guard, guard_bytes, PROT_NONE) != 0) std::abort();
    context->bottom = guard + guard_bytes;
    context->bytes = stack_bytes - guard_bytes;
    contexts_.push_back(context);
  }
#ifdef SIMT_ASAN
  pthread_attr_t attributes;
  void* bottom = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &bottom, &home_->bytes);
  pthread_attr_destroy(&attributes);
  home_->bottom = static_cast<char*>(bottom);
#endif
}

Fibers::~Fibers() {
  munmap(stacks_, contexts_.size() * stack_bytes);
  for (const Context* context : contexts_) delete context;
  delete home_;
}

void Fibers::begin() { active->enter(active->running_); }

void Fibers::enter(int index) {
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  Context& c = *contexts_[static_cast<std::size_t>(index)];
  c.entry(index);
  go(c, *home_, true);
  std::abort();
}

void Fibers::prepare(int index, Entry entry) {
  Context& c = *contexts_[static_cast<std::size_t>(index)];
  c.entry = entry;
  c.fake_stack = nullptr;
#ifdef SIMT_ASAN
  __asan_unpoison_memory_region(c.bottom, c.bytes);  // what an abandoned run left
#endif
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(c.bottom + c.bytes) - 2;
  *--top = nullptr;  // begin's return address: there is none
  *--top = reinterpret_cast<void*>(&Fibers::begin);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  c.top = top;
#else
  getcontext(&c.context);
  c.context.uc_stack.ss_sp = c.bottom;
  c.context.uc_stack.ss_size = c.bytes;
  c.context.uc_link = nullptr;
  makecontext(&c.context, &Fibers::begin, 0);
#endif
}

void Fibers::go(Context& from, Context& to, [[maybe_unused]] bool for_good) {
#ifdef SIMT_ASAN
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.bottom, to.bytes);
#endif
#if defined(__x86_64__)
  simt_switch_stacks(&from.top, to.top);
#else
  swapcontext(&from.context, &to.context);
#endif
#ifdef SIMT_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void Fibers::resume(int index) {
  active = this;
  running_ = index;
  go(*home_, *contexts_[static_cast<std::size_t>(index)]);
  running_ = -1;
}

void Fibers::yield() { go(*contexts_[static_cast<std::size_t>(running_)], *home_); }

void Fibers::yield_to(int index) {
  if (index == running_) return;
  Context& from = *contexts_[static_cast<std::size_t>(running_)];
  running_ = index;
  go(from, *contexts_[static_cast<std::size_t>(index)]);
}

}  // namespace simt
