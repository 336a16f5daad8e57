#include <sodium.h>

/* BLAKE2b-256 of two parts. Swift does not import libsodium's 64-byte aligned state, so the streaming
   form is behind this one call. */
static inline void csodium_blake2b_2(unsigned char *hash, const unsigned char *a, size_t a_size,
                                     const unsigned char *b, size_t b_size) {
  crypto_generichash_state state;
  crypto_generichash_init(&state, 0, 0, 32);
  crypto_generichash_update(&state, a, a_size);
  crypto_generichash_update(&state, b, b_size);
  crypto_generichash_final(&state, hash, 32);
}
