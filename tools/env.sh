# Sourced by the scripts beside it: installs what a build lacks (Debian and Ubuntu) and makes the
# C++ of RocksDB compile once per machine, however often the checkout or the profile changes.
need=""
command -v c++ >/dev/null || need="$need build-essential"
command -v ccache >/dev/null || need="$need ccache"
ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 || need="$need libclang-dev"
if [ -n "$need" ]; then
    command -v apt-get >/dev/null || { echo "please install:$need" >&2; exit 1; }
    root=""
    [ "$(id -u)" = 0 ] || root=sudo
    echo "installing:$need" >&2
    $root apt-get update -qq >&2
    # shellcheck disable=SC2086 # a list of package names
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $need >&2
fi
command -v cargo >/dev/null || { echo "cargo is missing: install Rust with rustup first" >&2; exit 1; }
export CC="ccache cc" CXX="ccache c++"

# Where cargo puts its results, whatever the environment or configuration says.
target_dir() {
    cargo metadata --format-version 1 --no-deps --offline | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
