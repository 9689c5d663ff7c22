#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>

/* Has the digests from now on cover the text of the seccomp profile in the file CONFIG of a bundle.  */
void digest_profile (const char *config);

void blake3_hasher_init (void *state);
void blake3_hasher_update (void *state, const void *data, size_t length);
void blake3_hasher_finalize (void *state, unsigned char *out, size_t length);

#endif
