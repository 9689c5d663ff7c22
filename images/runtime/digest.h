#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>

struct digest;

/* Has the digests from now on cover the text of the seccomp profile in the file CONFIG of a bundle.  */
void digest_profile (const char *config);

void blake3_hasher_init (struct digest *digest);
void blake3_hasher_update (struct digest *digest, const void *data, size_t length);
void blake3_hasher_finalize (struct digest *digest, unsigned char *out, size_t length);

#endif
