#!/bin/bash
# zig cc accepts -mmacosx-version-min and ignores it.
#
# Software:    ziglang 0.17.1 from PyPI (its `zig cc` has clang's command line)
# Expectation: `-mmacosx-version-min=11.0` makes code for macOS 11 and later, as it does with clang. rustc and the
#              cc crate pass this flag for Apple targets.
# Behaviour:   no warning, exit status 0, and LC_BUILD_VERSION asks for macOS 15.0, which is the minimum of a target
#              without a version. Only a version in the target has an effect: -target aarch64-macos.11.0.
# Seen:        2026-11-30
#                flag only: minimum 15.0
#                no version: minimum 15.0
#                version in the target: minimum 11.0
# For Rorqual: a release for macOS built on Linux must name its minimum system in zig's target.
#
# Runs as any user on x86_64 or arm64. Needs python3 with venv. About 30 seconds, 100 MB from PyPI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ZIG_GLOBAL_CACHE_DIR=$work/cache ZIG_LOCAL_CACHE_DIR=$work/cache

python3 -m venv "$work/python"
"$work/python/bin/pip" --quiet --disable-pip-version-check install ziglang==0.17.1
echo 'int main(void) { return 0; }' > "$work/program.c"

minimum() { # ARGUMENT...: compiles the program and prints the minimum system its LC_BUILD_VERSION names
  "$work/python/bin/python" -m ziglang cc -c "$@" "$work/program.c" -o "$work/program.o" 2> "$work/warnings"
  [ ! -s "$work/warnings" ] || { echo "changed: zig prints a warning now: $(cat "$work/warnings")" >&2; return 1; }
  python3 - "$work/program.o" <<'PYTHON'
import struct, sys
program = open(sys.argv[1], "rb").read()
commands, = struct.unpack_from("<I", program, 16)
offset = 32
for _ in range(commands):
    command, length = struct.unpack_from("<II", program, offset)
    if command == 0x32:  # LC_BUILD_VERSION: platform, then the minimum as 16.8.8 bits
        version, = struct.unpack_from("<I", program, offset + 12)
        print(f"{version >> 16}.{version >> 8 & 255}")
    offset += length
PYTHON
}

flag=$(minimum -target aarch64-macos -mmacosx-version-min=11.0)
neither=$(minimum -target aarch64-macos)
target=$(minimum -target aarch64-macos.11.0)
echo "flag only: minimum $flag"
echo "no version: minimum $neither"
echo "version in the target: minimum $target"

[ "$target" = 11.0 ] || { echo "changed: a version in the target gives $target" >&2; exit 1; }
[ "$neither" != 11.0 ] || { echo "changed: 11.0 is the minimum without a version" >&2; exit 1; }
[ "$flag" = "$neither" ] || { echo "changed: the flag gives $flag, no version gives $neither" >&2; exit 1; }
