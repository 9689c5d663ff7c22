#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256
{
  uint32_t state[8];
  uint64_t length;
  unsigned char block[64];
};

void sha256_init (struct sha256 *digest);
void sha256_update (struct sha256 *digest, const void *data, size_t length);
void sha256_finalize (struct sha256 *digest, unsigned char out[SHA256_BYTES]);

#endif
