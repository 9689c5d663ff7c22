/* The digest under which crun keeps a compiled seccomp filter, so that the next container with the same profile need
   not compile it (12 ms).

   Debian has no static BLAKE3, which crun's library asks for. The name only has to be one that no other profile has,
   so SHA-256 replaces it. crun's own selection of the profile's fields leaves out `errnoRet`. The profile's text
   goes in before it, so that two profiles that differ in an answer do not share a filter.  */
#define _GNU_SOURCE
#include "digest.h"
#include "../sha256.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* crun's library makes room for BLAKE3's state, which is 1,912 bytes.  */
_Static_assert (sizeof (struct sha256) <= 1912, "crun's library has no room for this state");

/* What every digest begins with.  */
static const char *profile;
static size_t profile_length;

/* Where the JSON object ends that begins at AT; NULL if it has no end.  */
static const char *
object_end (const char *at, const char *end)
{
  bool quoted = false;
  for (int depth = 0; at < end; at++)
    {
      if (quoted)
        {
          if (*at == '\\')
            at++;
          else if (*at == '"')
            quoted = false;
        }
      else if (*at == '"')
        quoted = true;
      else if (*at == '{')
        depth++;
      else if (*at == '}' && --depth == 0)
        return at + 1;
    }
  return NULL;
}

void
digest_profile (const char *config)
{
  /* A quote within a string has a backslash before it, so only a key can match.  */
  static const char key[] = "\"seccomp\":{";
  struct stat file;
  int fd = open (config, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat (fd, &file) < 0 || file.st_size == 0)
    return;
  const char *text = mmap (NULL, (size_t) file.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  close (fd);
  if (text == MAP_FAILED)
    return;
  const char *end = text + file.st_size, *begin = memmem (text, (size_t) file.st_size, key, sizeof (key) - 1);
  const char *after = begin ? object_end (begin + sizeof (key) - 2, end) : NULL;
  if (! after)
    return;
  profile = begin;
  profile_length = (size_t) (after - begin);
}

void
blake3_hasher_init (void *state)
{
  sha256_init (state);
  sha256_update (state, profile, profile_length);
}

void
blake3_hasher_update (void *state, const void *data, size_t length)
{
  sha256_update (state, data, length);
}

void
blake3_hasher_finalize (void *state, unsigned char *out, size_t length)
{
  unsigned char digest[SHA256_BYTES];
  sha256_finalize (state, digest);
  memcpy (out, digest, length < sizeof (digest) ? length : sizeof (digest));
}
