# shellcheck shell=sh
# Accesses files of a container or volume. Runs in the machine as root, under busybox sh.
#
#   sh -c <this> rorqual-files <root> <verb> <path> ...
#
# <root> is the location of the files: the root of a container's process, a volume's directory, or overlay:<directory of
# layers> for a stopped container (then this runs in its own mount namespace). Paths are resolved here, link by link, so
# that none leaves the root. The exit status gives the reason of a failure; see files/mod.rs.
root=$1 verb=$2 path=$3
not_found=44 not_a_directory=45 is_a_directory=46 exists=47 cut_short=48 not_a_file=49 moved=50

case $root in
overlay:*)
  layers=${root#overlay:}
  root=/run/rorqual-files
  mkdir -p "$root" && cd -P "${layers%/*}" || exit 1
  # Mounted as Docker does, with relative names, since many long ones would exceed the limit of mount options.
  layer=${layers##*/}
  mount -t overlay -o "lowerdir=$(cat "$layer/lower"),upperdir=$layer/diff,workdir=$layer/work" \
    overlay "$root" || exit 1
  ;;
esac

identity() { stat -c %d:%i "$1"; }
cd -P "$root" || exit $not_found
top=$(identity .)

# Walks to <path>. `all` enters every part; `follow` and `entry` leave the last one in $name, which `follow` resolves if
# it is a link. Each part is entered only if it is not a link, and its location is checked afterwards, since a container
# may change it at any time.
walk() {
  how=$1 rest=$2 links=0 name=.
  cd -P "$root" || exit $not_found
  while :; do
    while [ "$rest" != "${rest#/}" ]; do rest=${rest#/}; done
    [ -n "$rest" ] || return 0
    part=${rest%%/*}
    rest=${rest#"$part"}
    case $part in
    .) continue ;;
    ..)
      [ "$(identity .)" = "$top" ] || cd -P .. || exit $not_found
      continue
      ;;
    esac
    last=
    [ -n "${rest##*[!/]*}" ] || [ -z "$rest" ] && last=yes
    if [ "$last" ] && [ "$how" = entry ]; then name=$part && return 0; fi
    if [ -L "./$part" ]; then
      links=$((links + 1))
      [ $links -le 40 ] || exit $not_found
      # The x preserves newlines at the end of the name.
      target=$(readlink -n "./$part" && echo x) || exit $not_found
      target=${target%x}
      case $target in /*) cd -P "$root" || exit $not_found ;; esac
      rest=$target$rest
      continue
    fi
    if [ "$last" ] && [ "$how" = follow ]; then name=$part && return 0; fi
    [ -e "./$part" ] || exit $not_found
    [ -d "./$part" ] || exit $not_a_directory
    here=$(identity .)
    cd -P "./$part" || exit $not_found
    [ "$(identity ..)" = "$here" ] || exit $moved
  done
}

there() { [ -e "./$1" ] || [ -L "./$1" ]; }

case $verb in
list)
  walk all "$path"
  names=$(mktemp) || exit 1
  trap 'rm -f "$names"' EXIT HUP TERM
  find . -mindepth 1 -maxdepth 1 -print0 >"$names"
  stat -c %s "$names"
  cat "$names"
  xargs -0 -r stat -c '%f %s %Y %u %g %N' <"$names" 2>/dev/null
  # A file deleted during the listing is not a failure.
  exit 0
  ;;
read)
  walk follow "$path"
  there "$name" || exit $not_found
  [ ! -d "./$name" ] || exit $is_a_directory
  # A pipe or device would never end.
  [ -f "./$name" ] || exit $not_a_file
  stat -c %s "./$name"
  exec cat "./$name"
  ;;
archive)
  walk all "$path"
  exec tar -c -f - .
  ;;
write)
  size=$4 mode=$5 aside=$6
  walk follow "$path"
  [ ! -d "./$name" ] || exit $is_a_directory
  if there "$name" && [ ! -f "./$name" ]; then exit $not_a_file; fi
  trap 'rm -f "./$aside"' EXIT HUP TERM
  # Without noclobber this would write through a link with that name.
  set -C
  cat >"./$aside" || exit 1
  [ "$(stat -c %s "./$aside")" = "$size" ] || exit $cut_short
  if there "$name"; then
    chown "$(stat -c %u:%g "./$name")" "./$aside" || exit 1
    [ "$mode" ] || mode=$(stat -c %a "./$name")
  fi
  chmod "${mode:-644}" "./$aside" && mv -T "./$aside" "./$name"
  ;;
remove)
  walk entry "$path"
  there "$name" && [ "$name" != . ] || exit $not_found
  rm -rf "./$name"
  ;;
folder)
  walk entry "$path"
  ! there "$name" || exit $exists
  mkdir "./$name"
  ;;
move)
  to=$4
  walk entry "$path"
  there "$name" && [ "$name" != . ] || exit $not_found
  from=$name
  exec 3<.
  walk entry "$to"
  ! there "$name" || exit $exists
  mv -T "/proc/self/fd/3/$from" "./$name"
  ;;
*) exit 1 ;;
esac
