#!/bin/bash
# Every docker command spends most of its start on the widths of 1,114,112 characters, which it prints none of.
#
# Software:    Debian testing's docker-cli 28.5.2, linked with go-runewidth 0.0.26 or newer
# Expectation: a program pays for the width of a character when it prints one.
# Behaviour:   go-runewidth fills a table of two widths for each code point in its init function, by a search each. It
#              takes longer than the initialisation of all other packages of the program together.
# Seen:        2026-11-30, the initialisation of `docker --version`
#                go-runewidth: 30 to 50 ms, all other packages: 5 to 9 ms
# For Rorqual: images/fix-widths changes docker and docker-buildx.
#
# Any user, Debian 12 or 13 with mmdebstrap, on x86_64. Half a minute.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Copies of testing are often past their date; the version is pinned.
mmdebstrap --quiet --variant=extract --format=tar --aptopt='Acquire::Check-Valid-Until "false"' \
  --include=docker-cli=28.5.2+dfsg4-5 forky "$work/root.tar"
tar -x -C "$work" -f "$work/root.tar" ./usr/bin/docker
# Lines of the Go runtime: init PACKAGE @START ms, DURATION ms clock, …
GODEBUG=inittrace=1 "$work/usr/bin/docker" --version 2>&1 | awk '
  $1 == "init" { if ($2 == "github.com/mattn/go-runewidth") widths += $5; else others += $5 }
  END {
    printf "go-runewidth: %d ms, all other packages: %d ms\n", widths, others
    exit widths <= others
  }' || { echo "changed: the widths take less than the rest" >&2; exit 1; }
