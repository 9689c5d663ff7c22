/* SHA-256 (FIPS 180-4).  */
#include "sha256.h"

#include <string.h>

#define BLOCK 64
#define WORDS 8

static const uint32_t first_state[WORDS] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };

static const uint32_t constants[BLOCK] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t
rotated (uint32_t value, int bits)
{
  return value >> bits | value << (32 - bits);
}

static void
take_block (struct sha256 *digest)
{
  uint32_t schedule[BLOCK], s[WORDS];
  for (int i = 0; i < 16; i++)
    {
      const unsigned char *at = digest->block + 4 * i;
      schedule[i] = (uint32_t) at[0] << 24 | (uint32_t) at[1] << 16 | (uint32_t) at[2] << 8 | at[3];
    }
  for (int i = 16; i < BLOCK; i++)
    {
      uint32_t a = schedule[i - 15], b = schedule[i - 2];
      schedule[i] = schedule[i - 16] + (rotated (a, 7) ^ rotated (a, 18) ^ a >> 3) + schedule[i - 7]
                    + (rotated (b, 17) ^ rotated (b, 19) ^ b >> 10);
    }
  memcpy (s, digest->state, sizeof (s));
  for (int i = 0; i < BLOCK; i++)
    {
      uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
      uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
      uint32_t first = s[7] + (rotated (s[4], 6) ^ rotated (s[4], 11) ^ rotated (s[4], 25)) + choice + constants[i]
                       + schedule[i];
      uint32_t second = (rotated (s[0], 2) ^ rotated (s[0], 13) ^ rotated (s[0], 22)) + majority;
      memmove (s + 1, s, sizeof (s) - sizeof (*s));
      s[4] += first;
      s[0] = first + second;
    }
  for (int i = 0; i < WORDS; i++)
    digest->state[i] += s[i];
}

void
sha256_update (struct sha256 *digest, const void *data, size_t length)
{
  const unsigned char *at = data;
  while (length--)
    {
      digest->block[digest->length++ % BLOCK] = *at++;
      if (digest->length % BLOCK == 0)
        take_block (digest);
    }
}

void
sha256_init (struct sha256 *digest)
{
  memcpy (digest->state, first_state, sizeof (first_state));
  digest->length = 0;
}

void
sha256_finalize (struct sha256 *digest, unsigned char out[SHA256_BYTES])
{
  uint64_t bits = digest->length * 8;
  unsigned char padding = 0x80;
  do
    {
      sha256_update (digest, &padding, 1);
      padding = 0;
    }
  while (digest->length % BLOCK != BLOCK - sizeof (bits));
  for (int shift = 56; shift >= 0; shift -= 8)
    {
      unsigned char byte = (unsigned char) (bits >> shift);
      sha256_update (digest, &byte, 1);
    }
  for (size_t i = 0; i < SHA256_BYTES; i++)
    out[i] = (unsigned char) (digest->state[i / 4] >> (24 - i % 4 * 8));
}
