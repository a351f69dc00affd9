# Shared by the scripts beside it, which read it with "source". Not a program.
set -euo pipefail
exec </dev/null

SCRIPT=einhyrningsins/package/${0##*/}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
TOP=$(cd "$HERE/../.." && pwd -P)

# Prints the comment at the head of the script, and ends it.
help() {
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
}

say() {
    printf '== %s\n' "$*" >&2
}

# fail STATUS WHAT [HINT]
fail() {
    printf '%s: %s\n' "$SCRIPT" "$2" >&2
    [[ -z ${3-} ]] || printf '  hint: %s\n' "$3" >&2
    exit "$1"
}

# need PROGRAM HINT
need() {
    command -v "$1" >/dev/null || fail 1 "$1 is not installed" "$2"
}

# The directory for all that is built, which Cargo calls the target directory.
target_directory() {
    realpath -m "${CARGO_TARGET_DIR:-$TOP/target}"
}

host() {
    rustc -vV | sed -n 's/^host: //p'
}

version() {
    sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$TOP/Cargo.toml"
}

# Sets SOURCE_DATE_EPOCH, the time of all files in packages: that of the commit, so that it is the same wherever and
# whenever they are built.
set_time() {
    if [[ -z ${SOURCE_DATE_EPOCH-} ]]; then
        SOURCE_DATE_EPOCH=$(git -C "$TOP" log -1 --format=%ct 2>/dev/null) ||
            fail 1 "cannot find the time of the last commit: $TOP is not a Git repository" \
                'set SOURCE_DATE_EPOCH to the time of the release, in seconds since 1970'
    fi
    export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C
    umask 022
}

# stage_units DIRECTORY: copies the units, with the programs' paths in a package of a distribution.
stage_units() {
    local unit
    mkdir -p "$1"
    for unit in "$TOP"/einhyrningsins/contrib/systemd/*; do
        sed 's|/usr/local/bin/|/usr/bin/|g' "$unit" >"$1/${unit##*/}"
    done
}
