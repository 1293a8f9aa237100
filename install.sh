#!/bin/sh
# Installs cx from this checkout or from a release tarball, and removes it again.
#
# Everything happens inside functions, and main is called on the last line: a file that arrives cut short
# does nothing.
set -eu

# Every cx carries this text; it tells our binary from other programs called cx.
OURS='cx-agent-1'

usage() {
    cat <<'END'
Usage: ./install.sh [OPTIONS]

Builds cx from this checkout and installs it to ~/.local/bin.

Options:
  --demo            then run `cx demo`: a throw-away node on this machine and what cx does with it
  --prefix DIR      install to DIR/bin
  --tarball FILE    install from a release tarball instead of building (needs --sha256)
  --sha256 HEX      what the tarball's SHA-256 must be
  --uninstall       remove cx, and its hook from Claude Code
  --help            print this
END
}

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    shift
    for line in "$@"; do
        printf '  %s\n' "$line" >&2
    done
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

need_home() {
    [ -n "${HOME:-}" ] || fail 'HOME is not set' 'say where to install: ./install.sh --prefix DIR'
}

parse() {
    demo=no uninstall=no tarball='' sha256='' prefix=''
    while [ $# -gt 0 ]; do
        case $1 in
            --demo) demo=yes ;;
            --uninstall) uninstall=yes ;;
            --prefix | --tarball | --sha256)
                if [ $# -lt 2 ] || [ -z "$2" ]; then
                    fail "$1 needs a value" 'see ./install.sh --help'
                fi
                case $1 in
                    --prefix) prefix=$2 ;;
                    --tarball) tarball=$2 ;;
                    --sha256) sha256=$2 ;;
                esac
                shift
                ;;
            --prefix=*) prefix=${1#*=} ;;
            --tarball=*) tarball=${1#*=} ;;
            --sha256=*) sha256=${1#*=} ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) fail "unknown option: $1" 'see ./install.sh --help' ;;
        esac
        shift
    done
    if [ -z "$prefix" ]; then
        need_home
        prefix=$HOME/.local
    fi
    case $prefix in
        /*) ;;
        *) prefix=$PWD/$prefix ;;
    esac
    bindir=$prefix/bin
    if [ -n "$tarball" ] && [ -z "$sha256" ]; then
        fail '--tarball needs --sha256' "the release page names it; without it nobody checks what is installed"
    fi
    if [ -z "$tarball" ] && [ -n "$sha256" ]; then
        fail '--sha256 goes with --tarball'
    fi
}

# Whether the file is a cx of ours.
is_ours() {
    LC_ALL=C grep -q "$OURS" "$1" 2>/dev/null
}

find_cargo() {
    if has cargo; then
        cargo=cargo
    elif [ -n "${HOME:-}" ] && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
        export PATH
        cargo=cargo
    else
        fail 'cargo is not installed, and cx is built with it' \
            'next step: install Rust 1.95 or newer, see https://rustup.rs'
    fi
    rustc -vV >/dev/null 2>&1 || fail 'rustc does not run' 'next step: rustup default stable'
    has cc || has gcc || has clang || fail 'there is no C compiler, which Rust links with' "next step: $(install_hint)"
}

install_hint() {
    if has apt-get; then
        echo 'apt-get install build-essential (as root)'
    elif has dnf; then
        echo 'dnf install gcc glibc-static (as root)'
    elif has apk; then
        echo 'apk add build-base (as root)'
    elif has pacman; then
        echo 'pacman -S base-devel (as root)'
    elif [ "$(uname -s)" = Darwin ]; then
        echo 'xcode-select --install'
    else
        echo 'install gcc or clang'
    fi
}

# Whether this machine can link a program statically; some Linuxes leave libc.a out.
can_link_static() {
    has cc || return 0
    echo 'int main(void) { return 0; }' >"$work/try.c"
    cc -static -o "$work/try" "$work/try.c" >/dev/null 2>&1
}

# Builds and sets $binary.
build() {
    find_cargo
    host=$(rustc -vV | sed -n 's/^host: //p')
    target_dir=${CARGO_TARGET_DIR:-$here/target}
    set -- build --release --locked --bin cx --manifest-path "$here/Cargo.toml" --target-dir "$target_dir"
    binary=$target_dir/release/cx
    flags=${RUSTFLAGS:-}
    case $host in
        *-linux-*)
            if can_link_static; then
                # Static, so that the same file is the agent on any Linux of this architecture. With --target, or
                # the flag would reach the build's own plug-ins, which cannot be static. At a fixed address: else each
                # start, and so each hook, would first correct some 13,000 pointers, which copies 60 pages.
                flags="$flags -C target-feature=+crt-static -C relocation-model=static"
                set -- "$@" --target "$host"
                binary=$target_dir/$host/release/cx
            else
                say 'This machine cannot link statically (libc.a is missing): building a dynamic cx. Nodes with an'
                say 'older libc than this machine will need an agent of their own.'
            fi
            ;;
    esac
    say 'Building cx (a few minutes the first time) ...'
    RUSTFLAGS=$flags "$cargo" "$@" || fail 'the build failed, see above' \
        'if it asks for a newer Rust: rustup update stable' \
        'if crates could not be fetched: this machine needs access to the crates registry once'
}

digest() {
    if has sha256sum; then
        sha256sum <"$1" | cut -d' ' -f1
    elif has shasum; then
        shasum -a 256 <"$1" | cut -d' ' -f1
    elif has openssl; then
        openssl dgst -sha256 <"$1" | sed 's/.* //'
    else
        fail 'nothing here can compute a SHA-256' 'next step: install coreutils, perl (shasum) or openssl'
    fi
}

# Unpacks the tarball and sets $binary.
unpack() {
    [ -r "$tarball" ] || fail "cannot read $tarball"
    # A copy, so that what was checked is what is unpacked.
    cp "$tarball" "$work/release"
    found=$(digest "$work/release")
    wanted=$(printf '%s' "$sha256" | tr 'A-F' 'a-f')
    [ "$found" = "$wanted" ] || fail "$tarball is not what it should be; nothing was installed" \
        "SHA-256 wanted: $wanted" "SHA-256 found:  $found" 'next step: download it again'
    member=$(tar -tf "$work/release" | grep -E '^(\./)?([^/]+/)?cx$' | head -n 1) || member=''
    [ -n "$member" ] || fail "there is no cx in $tarball"
    # To stdout: no path of the archive is ever used on this machine.
    tar -xOf "$work/release" "$member" >"$work/cx" || fail "failed to unpack $member from $tarball"
    binary=$work/cx
}

put() {
    dest=$bindir/cx
    if [ -e "$dest" ] && ! is_ours "$dest"; then
        fail "$dest is another program called cx, and stays" \
            'next step: install elsewhere (--prefix DIR), or move that one away'
    fi
    is_ours "$binary" || fail "$binary is not cx; nothing was installed"
    mkdir -p "$bindir" || fail "cannot create $bindir" 'next step: choose another place with --prefix DIR'
    # A running cx keeps its old file: the new one takes the name in one step.
    fresh=$bindir/.cx.new.$$
    trap 'rm -f "$fresh"; cleanup' EXIT
    cp "$binary" "$fresh" || fail "cannot write to $bindir" 'next step: choose another place with --prefix DIR'
    chmod 755 "$fresh"
    mv -f "$fresh" "$dest"
    trap cleanup EXIT
    say "Installed $dest."
}

about_path() {
    case ":$PATH:" in
        *":$bindir:"*)
            first=$(command -v cx 2>/dev/null || :)
            if [ -n "$first" ] && [ "$first" != "$bindir/cx" ]; then
                say "Note: another cx comes first on your PATH: $first. Put $bindir in front of it."
            fi
            ;;
        *)
            say "$bindir is not on your PATH. Add it, for the shells to come:"
            case ${SHELL:-} in
                */zsh) say "    echo 'export PATH=\"$bindir:\$PATH\"' >> ~/.zshrc" ;;
                */fish) say "    fish_add_path '$bindir'" ;;
                */bash) say "    echo 'export PATH=\"$bindir:\$PATH\"' >> ~/.bashrc" ;;
                *) say "    echo 'export PATH=\"$bindir:\$PATH\"' >> ~/.profile" ;;
            esac
            say "and for this one: export PATH=\"$bindir:\$PATH\""
            ;;
    esac
}

remove() {
    dest=$bindir/cx
    if [ ! -e "$dest" ]; then
        fail "there is no $dest" 'if cx was installed elsewhere: ./install.sh --uninstall --prefix DIR'
    fi
    is_ours "$dest" || fail "$dest is another program called cx, and stays"
    settings=${CLAUDE_CONFIG_DIR:-${HOME:-}/.claude}/settings.json
    servers=${CLAUDE_CONFIG_DIR:-${HOME:-}}/.claude.json
    if grep -q 'cx' "$settings" "$servers" 2>/dev/null; then
        if "$dest" setup claude --remove --yes; then
            :
        else
            fail "cx could not be taken out of $settings or $servers; nothing was removed" \
                'run this in a terminal of your own, or take the entry that names cx out by hand first'
        fi
    fi
    gemini=${HOME:-}/.gemini/settings.json
    if [ -f "$gemini" ] && grep -q 'cx' "$gemini"; then
        "$dest" setup gemini --remove --yes || fail "the hook could not be taken out of $gemini; nothing more was removed" \
            'run this in a terminal of your own, or take the entry that names cx out by hand first'
    fi
    if [ -f "$settings" ] && grep -q '"cx@' "$settings"; then
        if ! has claude || ! claude plugin uninstall cx@cx >/dev/null 2>&1; then
            say 'The Claude Code plugin of cx stays; take it away there: /plugin uninstall cx@cx'
        fi
    fi
    # Shims, which nobody but cx puts there.
    rm -rf "${XDG_DATA_HOME:-${HOME:-~}/.local/share}/cx/shims"
    rm -f "$dest"
    say "Removed $dest."
    for file in .bashrc .bash_profile .zshrc .config/fish/config.fish; do
        if grep -q 'cx init' "${HOME:-}/$file" 2>/dev/null; then
            say "Take the line with 'cx init' out of ~/$file."
        fi
    done
    say 'These stay; remove them by hand if you like:'
    say "    ${XDG_CONFIG_HOME:-${HOME:-~}/.config}/cx       your configuration"
    say "    ${XDG_STATE_HOME:-${HOME:-~}/.local/state}/cx  history, logs, kept conflicts"
    say "    ${XDG_CACHE_HOME:-${HOME:-~}/.cache}/cx        load table, indexes"
    say 'Nodes keep their mirrors and agent in ~/.cache/cx and ~/.local/share/cx there. To clean a node,'
    say 'run this before you uninstall: cx nodes remove --purge NODE'
}

cleanup() {
    rm -rf "$work"
}

main() {
    parse "$@"
    if [ "$uninstall" = yes ]; then
        remove
        return
    fi
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    work=$(mktemp -d)
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    if [ -n "$tarball" ]; then
        unpack
    else
        [ -f "$here/Cargo.toml" ] || fail 'this is not a checkout of cx' \
            'next step: run it from a checkout, or with --tarball FILE --sha256 HEX'
        build
    fi
    put
    about_path
    if [ "$demo" = yes ]; then
        say
        "$bindir/cx" demo
    else
        say "Next: $bindir/cx nodes add ALIAS (a machine that ssh reaches), or $bindir/cx demo to look first."
    fi
}

main "$@"
