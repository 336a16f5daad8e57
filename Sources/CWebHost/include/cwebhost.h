#include <stddef.h>

/* The one thing that the module asks of who runs it: fill memory with bytes from the system's cryptographic
   source (`crypto.getRandomValues`). */
__attribute__((import_module("host"), import_name("random"))) void cwebhost_random(void *bytes, size_t count);
