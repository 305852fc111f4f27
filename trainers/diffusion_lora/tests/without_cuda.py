"""Makes PyPI's torch for Linux importable on a machine without CUDA's libraries (2 GB), by empty ones with the names that it asks for.

    python without_cuda.py SITE_PACKAGES

Why: that torch is linked with CUDA, and no other is on PyPI for x86-64. The tests use the CPU alone, so the functions that are asked for are never
called; each of them ends the process if it is. The runtime and CUPTI are called on import: their true ones (nvidia-cuda-runtime, nvidia-cuda-cupti,
50 MB) must be installed. What is made lies beside torch's own libraries. Not for training: a GPU needs the true ones. Needs a C compiler and `nm`.
"""

import collections
import pathlib
import subprocess
import sys
import tempfile

# Libraries of torch that are loaded by `import torch`. Others, such as libtorch_cuda_linalg, are loaded when a GPU is used.
LOADED = ("libtorch_global_deps", "libc10_cuda", "libtorch_cpu", "libtorch_cuda", "libtorch_python", "libtorch_nvshmem")
# What a library's functions begin with, where they have no version that names the library.
BEGINNINGS = {
    "libnccl.so.2": ("nccl",), "libcusparse.so.12": ("cusparse",), "libcufft.so.12": ("cufft",), "libcufile.so.0": ("cuFile",),
    "libcusparseLt.so.0": ("cusparseLt",), "libcublas.so.13": ("cublas",), "libcublasLt.so.13": ("cublasLt",), "libcudnn.so.9": ("cudnn",),
    "libnvrtc.so.13": ("nvrtc",), "libnvshmem_host.so.3": ("nvshmem",), "libcudart.so.13": ("cuda", "__cuda"), "libcupti.so.13": ("cupti",),
}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(site_packages):
    home = site_packages / "torch" / "lib"
    wanted, names = collections.defaultdict(set), set()
    for library in (home / f"{name}.so" for name in LOADED):
        if not library.exists():
            continue
        for line in output("readelf", "-d", str(library)).splitlines():
            if "(NEEDED)" in line:
                names.add(line.split("[")[1].split("]")[0])
        for line in output("nm", "-D", "--undefined-only", str(library)).splitlines():
            symbol, _, version = line.split()[-1].partition("@")
            wanted[symbol].add(version.lstrip("@"))
    names = {name for name in names if name in BEGINNINGS or name.startswith(("libcu", "libnv"))}
    unknown = names - set(BEGINNINGS)
    if unknown:
        sys.exit(f"torch asks for libraries that are not known here: {sorted(unknown)}")
    there = {path.name for path in (site_packages / "nvidia").glob("*/lib/*")}
    if missing := {"libcudart.so.13", "libcupti.so.13"} - there:
        sys.exit(f"not installed: {sorted(missing)}")
    for name in sorted(names - there):
        make(home / name, name, functions(name, wanted))


def functions(library, wanted):
    """Version ('' for none) to functions."""
    out = collections.defaultdict(set)
    for symbol, versions in wanted.items():
        longest = max((b for beginnings in BEGINNINGS.values() for b in beginnings if symbol.startswith(b)), key=len, default=None)
        for version in versions:
            named = version == library
            if named or (version not in BEGINNINGS and longest in BEGINNINGS[library] and not version.startswith("GLIBC")):
                out[version].add(symbol)
    return out


def make(path, name, by_version):
    with tempfile.TemporaryDirectory() as folder:
        source, script = pathlib.Path(folder, "empty.c"), pathlib.Path(folder, "versions.map")
        all_functions = sorted({function for group in by_version.values() for function in group})
        source.write_text("".join(f"void {function}(void) {{ __builtin_trap(); }}\n" for function in all_functions) or "void nothing_here(void) {}\n")
        versions = {version: group for version, group in by_version.items() if version}
        parts = [f"{version} {{ global: {'; '.join(sorted(group))}; }};\n" for version, group in sorted(versions.items())]
        script.write_text("".join(parts))
        more = [f"-Wl,--version-script={script}"] if versions else []
        command = ["cc", "-shared", "-fPIC", "-O0", "-w", "-fno-builtin", f"-Wl,-soname,{name}", *more, "-o", str(path), str(source)]
        subprocess.run(command, check=True)
    print(f"{path.name}: {len(all_functions)} functions, versions {sorted(versions) or 'none'}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
