#include <cwebhost.h>
#include <stdint.h>

/* libsodium and Swift's runtime take their randomness from here. */
void arc4random_buf(void *bytes, size_t count) { cwebhost_random(bytes, count); }

uint32_t arc4random(void) {
  uint32_t number;
  cwebhost_random(&number, sizeof number);
  return number;
}

/* Swift's runtime calls it for `print`, which the core never does. */
int putchar(int character) { return character; }

/* libsodium's assertions: without the text that libc would print, for which it would want files. */
void __assert_fail(const char *expression, const char *file, int line, const char *function) {
  (void)expression, (void)file, (void)line, (void)function;
  __builtin_trap();
}

/* Swift's code looks whether a function wrote beyond its own part of the stack. The value need not be secret: it is to
   find mistakes, not attacks, since nothing in a module's memory can become code. */
uintptr_t __stack_chk_guard = 0x5afec0de;

void __stack_chk_fail(void) { __builtin_trap(); }

/* 128-bit multiplication, which WebAssembly lacks and which clang's own library would have; Debian's is of another
   clang. By halves of 64 bits, of which the lower ones are multiplied by halves of 32 bits. */
__int128 __multi3(__int128 a, __int128 b) {
  uint64_t a_low = (uint64_t)a, b_low = (uint64_t)b;
  uint64_t a_high = (uint64_t)((unsigned __int128)a >> 64), b_high = (uint64_t)((unsigned __int128)b >> 64);
  uint64_t a0 = (uint32_t)a_low, a1 = a_low >> 32, b0 = (uint32_t)b_low, b1 = b_low >> 32;
  uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  uint64_t carried = (uint32_t)middle + a0 * b1;
  uint64_t high = a1 * b1 + (middle >> 32) + (carried >> 32) + a_low * b_high + a_high * b_low;
  return (__int128)((unsigned __int128)high << 64 | a_low * b_low);
}
