#!/bin/sh
# Runs all tests. What they need is installed where that is allowed (as root, with apt-get) and named where it is not.
set -eu

usage() {
    cat <<'END'
Usage: tests/run.sh [--needs | ARGUMENTS]

Runs all tests; ARGUMENTS go to `cargo nextest run`, or to `cargo test` where nextest is not installed:

  tests/run.sh                    all of them
  tests/run.sh signals            those with `signals` in their name
  tests/run.sh --needs            only install or name what the tests need
  CX_IT_KEEP=1 tests/run.sh NAME  keep the directory of a failed end-to-end test and print where it is

The end-to-end tests start sshds of their own on loopback, unprivileged, and stop them.
END
}

has() {
    command -v "$1" >/dev/null 2>&1
}

has_sshd() {
    has sshd || [ -x /usr/sbin/sshd ] || [ -x /usr/local/sbin/sshd ] || [ -x /opt/homebrew/sbin/sshd ]
}

# The Debian packages that are missing.
missing() {
    has cc || echo build-essential
    has git || echo git
    has make || echo make
    has python3 || echo python3
    has bash || echo bash
    has zsh || echo zsh
    has fish || echo fish
    { has ssh && has ssh-keygen; } || echo openssh-client
    has_sshd || echo openssh-server
    has ps || echo procps
}

install_packages() {
    echo "Installing: $packages"
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get -qq -o DPkg::Lock::Timeout=120 update
    # The tests start sshds of their own; that the package would open port 22 here is not wanted.
    service=kept
    has_sshd || service=unwanted
    policy=/usr/sbin/policy-rc.d
    if [ "$service" = unwanted ] && [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    # shellcheck disable=SC2086 # one word each
    apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $packages >/dev/null
    if [ "$service" = unwanted ] && has systemctl; then
        systemctl disable ssh.service ssh.socket >/dev/null 2>&1 || :
    fi
}

needs() {
    if ! has cargo && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
        export PATH
    fi
    packages=$(missing | tr '\n' ' ')
    if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && has apt-get; then
        # In a shell of its own: its trap is for the installation alone.
        (install_packages)
        packages=$(missing | tr '\n' ' ')
    fi
    if [ -n "$packages" ]; then
        echo 'tests/run.sh: the tests need programs that are not installed here.' >&2
        echo "Their Debian packages: $packages" >&2
        echo "Next step, as root: apt-get install $packages" >&2
        exit 1
    fi
    if ! has cargo; then
        echo 'tests/run.sh: cargo is not installed. Next step: install Rust 1.95 or newer, see https://rustup.rs' >&2
        exit 1
    fi
}

main() {
    case ${1:-} in
        -h | --help)
            usage
            return
            ;;
    esac
    cd "$(dirname -- "$0")/.."
    needs
    if [ "${1:-}" = --needs ]; then
        return
    fi
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked "$@"
    else
        cargo test --locked "$@"
    fi
}

main "$@"
