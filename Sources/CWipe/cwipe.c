#include "cwipe.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool wipes_freed;

void cwipe_set(bool wipes) { atomic_store_explicit(&wipes_freed, wipes, memory_order_relaxed); }

/* Takes the place of the C library's in the whole process, the Swift runtime included. Sanitizers have their own. */
#if defined(__GLIBC__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)

extern void __libc_free(void *memory);
extern void *__libc_realloc(void *memory, size_t size);

void free(void *memory) {
  if (memory && atomic_load_explicit(&wipes_freed, memory_order_relaxed))
    explicit_bzero(memory, malloc_usable_size(memory));
  __libc_free(memory);
}

void *realloc(void *memory, size_t size) {
  if (!memory || !size || !atomic_load_explicit(&wipes_freed, memory_order_relaxed))
    return __libc_realloc(memory, size);
  /* The library's own would give the old place back as it is. */
  void *moved = malloc(size);
  if (!moved) return NULL;
  size_t before = malloc_usable_size(memory);
  memcpy(moved, memory, before < size ? before : size);
  free(memory);
  return moved;
}

#endif
