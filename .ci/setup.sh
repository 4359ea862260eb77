#!/usr/bin/env bash
# Prepares a fresh machine for cargo. Everything fetched lies under target/setup.
#
#   .ci/setup.sh         finds or gets HDF5;  writes target/setup/env       (FEATURES and what cargo needs to be told)
#   .ci/setup.sh python  gets h5py, wfdb, pydicom and safetensors from PyPI, which some tests ask; without them those are skipped
#   .ci/setup.sh peers   gets neurokit2, scipy, wfdb and h5py from PyPI into a venv, to measure beside them
#   .ci/setup.sh cuda    gets nvcc from PyPI; writes target/setup/cuda-env
#
# HDF5=auto (default)  the system's library; else the package manager's, where it may be asked; else one built from source
# HDF5=system          the system's library or an error
# HDF5=static          one built from source and linked into the programs
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/target/setup
mkdir -p "$dir"

say() { echo "setup: $*"; }
fail() { echo "setup: error: $1" >&2; shift; for line in "$@"; do echo "hint: $line" >&2; done; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
# at_least WANTED FOUND: compares versions.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# ---- The compiler ---------------------------------------------------------------------------------------------------

check_tools() {
  if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH=$HOME/.cargo/bin:$PATH cargo_dir=$HOME/.cargo/bin
  fi
  local wanted found
  wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml)
  have cargo || fail "cargo was not found" "install Rust $wanted or later: https://rustup.rs"
  found=$(rustc --version | cut -d' ' -f2)
  at_least "$wanted" "$found" || fail "Rust $wanted or later is needed, found $found" "rustup update stable"
  have cc || have gcc || have clang || fail "no C compiler was found" "Debian: apt-get install gcc libc6-dev"
}

# ---- HDF5 -----------------------------------------------------------------------------------------------------------

# usable DIR: DIR holds the headers of an HDF5 that can compress.
usable() {
  local header
  for header in "$1"/H5pubconf.h "$1"/H5pubconf-64.h; do
    if [ -f "$header" ]; then grep -q 'define H5_HAVE_FILTER_DEFLATE 1' "$header" "$1"/H5pubconf*.h; return; fi
  done
  return 1
}

# find_system: sets `root` (for HDF5_DIR, may stay empty), `libs` (folder to be found again at run time, may stay empty)
# and `found` (words for the user). The order is that of the build script of hdf5-metno-sys.
find_system() {
  root='' libs='' found=''
  local include try
  if [ -n "${HDF5_DIR:-}" ]; then
    usable "$HDF5_DIR/include" || fail "HDF5_DIR=$HDF5_DIR has no include/H5pubconf.h with deflate" "unset HDF5_DIR, or point it at the prefix of HDF5 1.8.4 or later"
    root=$HDF5_DIR found="HDF5_DIR=$HDF5_DIR"
    return
  fi
  if [ "$(uname -s)" = Darwin ]; then
    if have brew && try=$(brew --prefix hdf5 2>/dev/null) && usable "$try/include"; then found="Homebrew, $try"; return; fi
  elif have pkg-config && pkg-config --atleast-version=1.8.4 hdf5 2>/dev/null; then
    for include in $(pkg-config --cflags-only-I hdf5 | sed 's/-I//g') "$(pkg-config --variable=includedir hdf5)"; do
      if usable "$include"; then
        libs=$(pkg-config --variable=libdir hdf5)
        found="pkg-config, version $(pkg-config --modversion hdf5)"
        return
      fi
    done
  fi
  if [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ]; then
    if usable /usr/include/hdf5/serial && [ -e /usr/lib/x86_64-linux-gnu/hdf5/serial/libhdf5.so ]; then
      found=/usr/include/hdf5/serial; return
    fi
    if usable /usr/include && { [ -e /usr/lib64/libhdf5.so ] || [ -e /usr/lib/x86_64-linux-gnu/libhdf5.so ]; }; then
      found=/usr/include; return
    fi
  fi
  # Modules of clusters, conda, and an h5cc on the PATH.
  for try in "${HDF5_ROOT:-}" "${HDF5_HOME:-}" "${EBROOTHDF5:-}" "${CONDA_PREFIX:-}" \
    "$(have h5cc && h5cc -showconfig 2>/dev/null | sed -n 's/^ *Installation point: *//p')"; do
    if [ -n "$try" ] && [ -d "$try/lib" ] && usable "$try/include"; then root=$try found=$try; return; fi
  done
  return 1
}

# as_root COMMAND...: runs it with the rights of root, without asking for a password.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
may_install() { have apt-get && { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }; }

install_hdf5() {
  say "no HDF5 library found; installing Debian's libhdf5-dev and pkg-config with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  local log=$dir/apt.log
  if as_root apt-get install -y --no-install-recommends libhdf5-dev pkg-config >"$log" 2>&1; then return; fi
  say "running apt-get update first"
  as_root apt-get update >>"$log" 2>&1 || true
  if as_root apt-get install -y --no-install-recommends libhdf5-dev pkg-config >>"$log" 2>&1; then return; fi
  say "apt-get failed (see target/setup/apt.log)"
  return 1
}

# ---- Packages from PyPI ---------------------------------------------------------------------------------------------

# debian_pip: pip out of Debian's python3-pip-whl, which needs no rights: Debian's python3 comes without pip.
debian_pip() {
  have apt-get && have dpkg-deb || return 1
  local place=$dir/pip state=$dir/apt
  say "python3 has no pip; unpacking Debian's python3-pip-whl into target/setup/pip"
  mkdir -p "$place" "$state/lists/partial" "$state/cache/archives/partial"
  if ! (cd "$place" && apt-get download python3-pip-whl) >"$dir/apt.log" 2>&1; then
    local own=(-o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache")
    (apt-get "${own[@]}" update && cd "$place" && apt-get "${own[@]}" download python3-pip-whl) >>"$dir/apt.log" 2>&1 || return 1
  fi
  dpkg-deb -x "$place"/python3-pip-whl_*.deb "$place" || return 1
  pip=(env "PYTHONPATH=$(ls "$place"/usr/share/python-wheels/pip-*.whl)" python3 -m pip)
  "${pip[@]}" --version >>"$dir/apt.log" 2>&1
}

# pip_into FOLDER PACKAGE...
pip_into() {
  local folder=$1 pip
  shift
  have python3 || fail "python3 is needed to fetch $*" "Debian: apt-get install python3"
  if python3 -m pip --version >/dev/null 2>&1; then
    pip=(python3 -m pip)
  elif python3 -m venv "$dir/venv" >/dev/null 2>&1; then
    pip=("$dir/venv/bin/python" -m pip)
  else
    debian_pip || return 1
  fi
  rm -rf "$folder"
  PIP_ROOT_USER_ACTION=ignore "${pip[@]}" install --quiet --disable-pip-version-check --no-warn-script-location --target "$folder" "$@"
}

# ---- HDF5 from source needs cmake -----------------------------------------------------------------------------------

cmake_wanted=3.26
cmake_version() { "$1" --version 2>/dev/null | sed -n 's/^cmake version //p'; }

# find_cmake: sets `cmake` to the folder that holds it; empty where it is on the PATH already.
find_cmake() {
  cmake=''
  local own=$dir/cmake/cmake/data/bin
  if have cmake && at_least "$cmake_wanted" "$(cmake_version cmake)"; then return; fi
  if [ ! -x "$own/cmake" ]; then
    say "HDF5 will be built from source, for which cmake $cmake_wanted or later is needed; fetching it from PyPI into target/setup/cmake"
    pip_into "$dir/cmake" 'cmake>=3.26,<5' || return 1
  fi
  [ -n "$(cmake_version "$own/cmake")" ] && cmake=$own
}

advice() {
  if have apt-get; then echo "sudo apt-get install libhdf5-dev pkg-config"
  elif have dnf; then echo "sudo dnf install hdf5-devel"
  elif have zypper; then echo "sudo zypper install hdf5-devel"
  elif have pacman; then echo "sudo pacman -S hdf5"
  elif have apk; then echo "apk add hdf5-dev"
  elif have brew; then echo "brew install hdf5"
  else echo "install the development files of HDF5 1.8.4 or later and set HDF5_DIR to their prefix"
  fi
}

setup_hdf5() {
  local root libs found cmake features='' rpath='' cargo_dir=''
  check_tools
  case ${HDF5:-auto} in
    system) find_system || fail "no HDF5 library with headers was found" "$(advice)" ;;
    static) features=static-hdf5 ;;
    auto) find_system || { may_install && install_hdf5 && find_system; } || features=static-hdf5 ;;
    *) fail "HDF5=$HDF5: expected auto, system or static" ;;
  esac
  {
    echo "# Written by .ci/setup.sh; read by the Makefile."
    if [ -n "$cargo_dir" ]; then echo "export PATH=$(printf %q "$cargo_dir"):\$PATH"; fi
  } >"$dir/env.new"
  if [ -n "$features" ]; then
    find_cmake || fail "there is neither an HDF5 library nor a cmake $cmake_wanted to build one with" \
      "$(advice)" "or, without root: install pip for python3, or cmake $cmake_wanted or later"
    say "HDF5: built from source (--features static-hdf5)"
    # With HDF5_DIR set, the build would take that library instead.
    echo "unset HDF5_DIR" >>"$dir/env.new"
    if [ -n "$cmake" ]; then echo "export PATH=$(printf %q "$cmake"):\$PATH" >>"$dir/env.new"; fi
    echo "FEATURES='--features $features'" >>"$dir/env.new"
  else
    say "HDF5: the system's ($found)"
    if [ -n "$root" ]; then echo "export HDF5_DIR=$(printf %q "$root")" >>"$dir/env.new"; rpath=$root/lib; fi
    case $libs in '' | /usr/lib* | /lib*) ;; *) rpath=$libs ;; esac
    # A library outside the loader's own folders is found again through the program's run path.
    if [ -n "$rpath" ]; then
      echo "export RUSTFLAGS=$(printf %q "${RUSTFLAGS:-} -C link-arg=-Wl,-rpath,$rpath")" >>"$dir/env.new"
    fi
    echo "FEATURES=" >>"$dir/env.new"
  fi
  mv "$dir/env.new" "$dir/env"
}

# ---- nvcc, to check that the CUDA build compiles --------------------------------------------------------------------

setup_cuda() {
  local home
  have g++ || fail "nvcc needs a C++ compiler" "Debian: apt-get install g++"
  home=$(echo "$dir"/cuda/nvidia/cu*)
  if [ ! -x "$home/bin/nvcc" ]; then
    say "fetching nvcc 13.2 from PyPI into target/setup/cuda (330 MB)"
    pip_into "$dir/cuda" 'nvidia-cuda-nvcc==13.2.*' 'nvidia-cuda-crt==13.2.*' 'nvidia-cuda-cccl==13.2.*' \
      'nvidia-nvvm==13.2.*' 'nvidia-cuda-runtime==13.2.*' || fail "nvcc could not be fetched from PyPI" "install pip for python3"
    home=$(echo "$dir"/cuda/nvidia/cu*)
  fi
  {
    echo "export CUDA_HOME=$(printf %q "$home") CUDA_PATH=$(printf %q "$home") NVCC=$(printf %q "$home/bin/nvcc")"
    echo "export PATH=$(printf %q "$home/bin"):\$PATH"
    echo "export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80} CUDAFORGE_THREADS=\${CUDAFORGE_THREADS:-$(getconf _NPROCESSORS_ONLN)}"
  } >"$dir/cuda-env"
  "$home/bin/nvcc" --version | sed -n 's/^Cuda compilation tools, /setup: nvcc /p'
}

# ---- h5py, wfdb, pydicom, safetensors, to check our files with the libraries that own them ---------------------------------------------

# setup_package NAME WANTED: into target/setup/NAME, where python3 has it not already. A failure is no error.
setup_package() {
  if PYTHONPATH=$dir/$1 python3 -c "import $1" 2>/dev/null; then return; fi
  say "fetching $1 from PyPI into target/setup/$1, for the tests"
  pip_into "$dir/$1" "$2" || say "$1 could not be fetched: the tests that need it are skipped"
}

# The programs that ours are measured beside (make rpeaks, make throughput).
setup_peers() {
  local python=$dir/peers/bin/python
  if [ -x "$python" ] && "$python" -c 'import neurokit2, wfdb, h5py, scipy' 2>/dev/null; then return; fi
  say "fetching neurokit2, wfdb, scipy and h5py from PyPI into target/setup/peers"
  python3 -m venv "$dir/peers" && "$dir/peers/bin/pip" install --quiet --disable-pip-version-check \
    'neurokit2==0.2.13' 'wfdb==4.3.1' scipy 'h5py>=3.10,<4'
}

case ${1:-hdf5} in
  hdf5) setup_hdf5 ;;
  python) setup_package h5py 'h5py>=3.10,<4'; setup_package wfdb 'wfdb==4.3.1'
    setup_package pydicom 'pydicom>=3,<4'; setup_package safetensors 'safetensors[numpy]>=0.4,<1' ;;
  peers) setup_peers ;;
  cuda) setup_cuda ;;
  *) fail "unknown part: $1" ;;
esac
