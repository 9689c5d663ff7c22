# Debian packages for the guest image, read by images/build and images/move-pins.
#
# The base is Debian 13, whose security updates arrive by themselves. The packages of images/pins come from testing, in
# exactly the versions named there. Testing has a lower priority than Debian 13, so nothing else comes from it but what
# Debian 13 does not have.
# shellcheck shell=bash disable=SC2154 # here: the directory images, set by the script that reads this
testing=forky

read_list() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/$1" | tr -s '[:space:]' '\n'; }

# Each pinned package and its version, one a line.
pins() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/pins"; }

# Adds its version to each pinned name, as apt takes it.
pinned() { awk 'NR == FNR { version[$1] = "=" $2; next } { print $1 version[$1] }' <(pins) -; }

# Has mmdebstrap fetch packages of Debian 13 and testing, not installed: debian OUT MMDEBSTRAP-OPTION...
#
# apt refuses a copy of the archive whose Release file has expired. The expiry guards against a mirror that holds back
# security updates by serving an old copy. The pins already say which versions of testing are wanted, and signatures
# and checksums are verified as always, so an old copy of testing can do no more than lack a pinned version. It is
# therefore used, with a warning. An expired copy of Debian 13 stays refused.
debian() {
  local out=$1 log status=0; shift
  log=$(mktemp)
  debian_once "$out" '' "$@" > "$log" 2>&1 || status=$?
  if [ "$status" != 0 ] && grep -q "^E: Release file for .*/$testing/.* is expired" "$log"; then
    sed -n "s|^E: \(Release file for .*/$testing/.* is expired ([^)]*)\).*|images: WARNING: \1|p" "$log" >&2
    echo 'images: WARNING: this copy of Debian testing is out of date. It is used all the same: signatures and' \
      'checksums are verified, and images/pins says which versions are wanted.' >&2
    status=0
    debian_once "$out" '[check-valid-until=no] ' "$@" > "$log" 2>&1 || status=$?
  fi
  [ "$status" = 0 ] || cat "$log" >&2
  rm "$log"
  return "$status"
}

debian_once() { # OUT OPTION-OF-THE-SOURCE MMDEBSTRAP-OPTION...
  local out=$1 option=$2; shift 2
  LC_ALL=C mmdebstrap --variant=extract --format=tar --setup-hook='set -e; lists=$1/etc/apt/sources.list
    sed -n "s/^deb \(.*\) trixie main\$/deb '"$option"'\1 '$testing' main/p" "$lists" > "$lists.d/testing.list"
    printf "Package: *\nPin: release n='$testing'\nPin-Priority: 100\n" > "$1/etc/apt/preferences.d/testing"' \
    "$@" trixie "$out"
}

# Each pinned package and the newest version testing has, sorted, one a line.
newest_pins() {
  local out status=0
  out=$(mktemp -d)
  pins | cut -d' ' -f1 > "$out/names"
  # base-files stands for any package: apt's index comes with it.
  debian "$out/tar" --include=base-files \
    "--extract-hook=APT_CONFIG=\$MMDEBSTRAP_APT_CONFIG xargs apt-cache madison < '$out/names' > '$out/versions'" ||
    status=$?
  # madison prints `name | version | source`, the newest version first.
  [ "$status" = 0 ] && awk -v suite=" $testing/" \
    '$2 == "|" && index($0, suite) && !seen[$1]++ { print $1, $3 }' "$out/versions" | LC_ALL=C sort
  rm -r "$out"
  return "$status"
}

# Says which pinned versions are gone; succeeds if there is one.
missing_pins() {
  local newest name version now missing=1
  newest=$(newest_pins) || return
  while read -r name version; do
    now=$(awk -v name="$name" '$1 == name { print $2 }' <<< "$newest")
    [ "$now" = "$version" ] && continue
    missing=0
    echo "images: Debian testing does not have $name $version any more; it has ${now:-no $name}" >&2
  done < <(pins)
  [ "$missing" = 0 ] || return
  echo 'images: to take what it has now, run: make pins' >&2
}
