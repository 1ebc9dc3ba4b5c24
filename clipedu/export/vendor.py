"""Packages of the npm registry that pages use, at pinned versions: fetched once, checked, and copied with licences."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import urllib.request
from base64 import b64decode
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from clipedu.export.models import require_onnx
from clipedu.ground.environment import cache_folder
from clipedu.ground.errors import ClipEduError
from clipedu.ground.files import whole_file

REGISTRY = "https://registry.npmjs.org"
PACKAGES = {  # version, and the SHA-512 of its archive as the registry gives it
    "katex": (
        "0.19.1",
        "jG8uKntjSEcm2EpQOh0XturpPuuC9r3Sq5HLHdsFdWZT27E672SF19QEi+of0/YeOy15lDgRhKvr5614uRrEfA==",
    ),
    "onnxruntime-web": (
        "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ),
}
_PATIENCE = 60  # seconds without a byte
_WASM = "ort-wasm-simd-threaded.wasm"


def vendored(name: str, members: Iterable[str], out: Path) -> None:
    """Copy files of an npm package's `dist/` into `out`, with the package's licence if it has one.

    Args:
        name: a key of `PACKAGES`.
        members: patterns such as `fonts/*.woff2`, relative to `dist/`; the folders between are kept.
        out: may exist.

    Raises:
        ClipEduError: the package is neither here nor can it be fetched, or it is not the one that is pinned.
    """
    patterns = [f"package/dist/{member}" for member in members]
    with tarfile.open(fileobj=io.BytesIO(_archive(name))) as archive:
        for entry in archive:
            if entry.isfile() and (
                entry.name == "package/LICENSE" or any(fnmatch(entry.name, pattern) for pattern in patterns)
            ):
                path = out / entry.name.removeprefix("package/").removeprefix("dist/")
                path.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(entry)
                assert content is not None
                path.write_bytes(content.read())


def write_runtime(out: Path) -> None:
    """Write what `clip.js` needs to run models into `out`: ONNX Runtime for browsers, its WebAssembly packed to 3.7 MB.

    Raises:
        ClipEduError: as `vendored` and `require_onnx`.
    """
    require_onnx()
    vendored("onnxruntime-web", ["ort.wasm.bundle.min.mjs", _WASM], out)
    wasm = out / _WASM
    (out / f"{_WASM}.gz").write_bytes(gzip.compress(wasm.read_bytes(), mtime=0))
    wasm.unlink()
    import onnxruntime  # its package has the licences, which the one for browsers lacks

    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copyfile(Path(onnxruntime.__file__).with_name(name), out / name)


def _archive(name: str) -> bytes:
    """The package's .tgz, from the cache or else from the registry."""
    version, expected = PACKAGES[name]
    file = cache_folder() / "npm" / f"{name}-{version}.tgz"
    if file.is_file() and _is(content := file.read_bytes(), expected):
        return content
    address = f"{REGISTRY}/{name}/-/{file.name}"
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as answer:
            content = answer.read()
    except OSError as error:
        raise ClipEduError(
            f"取不到 {name} {version}（{error}）；请联网后重试，或把 {address} 存为 {file}",
            f"cannot fetch {name} {version} ({error}); try again when online, or save {address} as {file}",
        ) from error
    if not _is(content, expected):
        raise ClipEduError(
            f"{address} 的内容与预期不符（SHA-512 不同）；请换一个网络重试",
            f"{address} is not the expected file (its SHA-512 differs); try again on another network",
        )
    with whole_file(file) as temporary:
        temporary.write_bytes(content)
    return content


def _is(content: bytes, expected: str) -> bool:
    return hashlib.sha512(content).digest() == b64decode(expected)
