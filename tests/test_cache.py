"""Importing, compiling, and where the compiled code is kept."""

import ast
import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastsoftmax
from fastsoftmax.cpu import cache

SOFTMAX = "import fastsoftmax; print(fastsoftmax.softmax([3.0, 1.0, 0.2]))"
ANSWER = "[0.8360188  0.11314284 0.05083836]"


def run(program, directory=None, path=None, check=True, timeout=None, **environment):
    env = os.environ | environment
    if directory is not None:
        env["NUMBA_CACHE_DIR"] = str(directory)
    home = str(path or Path(fastsoftmax.__file__).parent.parent)  # the first on Python's path
    command = [sys.executable, "-W", "always", "-c", program]
    return subprocess.run(
        command, env=env, cwd=home, capture_output=True, text=True, check=check, timeout=timeout
    )


def entries(directory):
    return sorted(Path(directory).rglob("*.bin"))


def test_importing_compiles_nothing_and_starts_no_thread(tmp_path):
    program = """
import _thread
from numba.core import event
from numba.np.ufunc import parallel
with event.install_recorder("numba:compile") as recorder:
    from fastsoftmax import softmax
    from fastsoftmax.cpu import across, along, batch, cuts, weighted
assert _thread._count() == 0  # beside the main thread
assert not parallel._is_initialized
assert batch.KERNELS and not recorder.buffer
import os
print(len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1)
"""
    assert run(program, tmp_path, OPENBLAS_NUM_THREADS="1").stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []


def test_what_a_gpus_arrays_need_is_imported_with_the_first_of_them():
    program = """
import sys
import numpy as np
from fastsoftmax import softmax
softmax(np.zeros((2, 3)), 1, where=np.ones(3, bool), temperature=2.0)
print({"fastsoftmax.device", "fastsoftmax.plain", "fastsoftmax.cuda.plan"} & set(sys.modules))
"""
    assert run(program).stdout.strip() == "set()"


@pytest.mark.alone
def test_importing_takes_hardly_longer_than_numba(tmp_path):
    program = """
import time
start = time.perf_counter()
import numba.extending, numba.core.typing.templates
between = time.perf_counter()
from fastsoftmax import softmax
print((time.perf_counter() - between) / (between - start))
"""
    # As after any first import: the modules' bytecode is there, which some environments never keep.
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    ratios = [float(run(program, **kept).stdout) for _ in range(6)]
    assert min(ratios[1:]) < 0.25  # 0.15 here


def test_code_is_kept_and_found_again(tmp_path):
    program = """
from numba.core import event
import fastsoftmax
with event.install_recorder("numba:compile") as recorder:
    print(fastsoftmax.softmax([3.0, 1.0, 0.2]))
    print(len(recorder.buffer))
"""
    first = run(program, tmp_path).stdout.split("\n")
    assert first[0] == ANSWER
    assert int(first[1]) == 4  # begun and done: the kernel, and what calls it
    names = [entry.name.split(".")[0] for entry in entries(tmp_path)]
    assert names == ["caller_alone", "softmax_short"]
    stamps = [entry.stat().st_mtime_ns for entry in entries(tmp_path)]
    # The second process loads no kernel, and not all that Numba can compile.
    program += """
import sys
print({"fastsoftmax.cpu.along", "fastsoftmax.cpu.across", "numba.np.linalg"} & set(sys.modules))
"""
    second = run(program, tmp_path).stdout.split("\n")
    assert second[:3] == [ANSWER, "0", "set()"]
    assert [entry.stat().st_mtime_ns for entry in entries(tmp_path)] == stamps


@pytest.fixture(scope="module")
def compiled_cache(tmp_path_factory):
    cache = tmp_path_factory.mktemp("compiled")
    run(SOFTMAX, cache)
    return cache


@pytest.mark.parametrize("damage", ["empty", "truncated", "one bit", "foreign"])
def test_a_damaged_file_is_compiled_afresh(compiled_cache, tmp_path, damage):
    shutil.copytree(compiled_cache, tmp_path, dirs_exist_ok=True)
    _, entry = entries(tmp_path)
    whole = entry.read_bytes()
    middle = len(whole) // 2
    entry.write_bytes(
        {
            "empty": b"",
            "truncated": whole[:middle],
            "one bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "foreign": b"\x89PNG" * 1000,
        }[damage]
    )
    assert run(SOFTMAX, tmp_path).stdout.strip() == ANSWER
    _, entry = entries(tmp_path)
    assert len(entry.read_bytes()) > 1000
    assert run(SOFTMAX, tmp_path).stdout.strip() == ANSWER


def test_any_changed_source_file_leads_to_a_new_entry(tmp_path):
    package = tmp_path / "site" / "fastsoftmax"
    shutil.copytree(Path(fastsoftmax.__file__).parent, package)
    cache = tmp_path / "cache"
    assert run(SOFTMAX, cache, package.parent).stdout.strip() == ANSWER
    assert len(entries(cache)) == 2
    # A helper in another file than the kernel's: across.py itself does not change.
    helper = package / "arithmetic" / "normalizer.py"
    text = helper.read_text()
    helper.write_text(text.replace("fma(e, a.value, e * a.rest)", "fma(e, a.value, e)"))
    assert helper.read_text() != text
    assert run(SOFTMAX, cache, package.parent).stdout.strip() != ANSWER
    assert len(entries(cache)) == 4


def test_where_nothing_can_be_written_one_warning_says_how_to_mend_it(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way of a directory")
    program = SOFTMAX + "; fastsoftmax.softmax([[1.0]], axis=0); fastsoftmax.logsumexp([1.0])"
    result = run(program, file)
    assert result.stdout.strip() == ANSWER
    assert result.stderr.count("RuntimeWarning") == 1
    assert "Point NUMBA_CACHE_DIR to a writable directory of your own" in result.stderr


def test_the_cache_directory_without_numbas_setting(tmp_path):
    program = "from fastsoftmax.cpu.cache import cache_directory; print(cache_directory())"
    env = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": str(tmp_path)}
    assert run(program, **env).stdout.startswith(str(tmp_path / "fastsoftmax"))
    env = {"NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": "", "HOME": str(tmp_path)}
    assert run(program, **env).stdout.startswith(str(tmp_path / ".cache" / "fastsoftmax"))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Where one file is kept, in a directory that is empty before."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "base"))
    monkeypatch.setattr(cache, "failure", None)
    return cache.Store("kernel")


def test_without_a_home_nothing_is_kept(store, tmp_path, monkeypatch):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: str(path))  # as without a passwd entry
    monkeypatch.chdir(tmp_path)
    assert store.load(1) is None
    with pytest.warns(RuntimeWarning, match="no home directory"):
        store.save(1, b"code")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    with pytest.raises(FileNotFoundError):
        cache.cache_directory()


def test_directories_and_files_are_this_users_alone(store, tmp_path):
    before = os.umask(0)
    try:
        store.save(1, b"code")
    finally:
        os.umask(before)
    assert store.load(1) == b"code"
    for path in (tmp_path / "base").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_an_interrupt_as_a_file_has_just_got_its_name(store, monkeypatch):
    replace = os.replace

    def interrupted(*names):
        replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save(1, b"code")
    assert store.load(1) == b"code"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("place", ["fastsoftmax", "fastsoftmax/*", "fastsoftmax/*/*"])
@pytest.mark.parametrize("how", ["belongs to another user", "others may write"])
def test_what_others_may_have_written_is_not_read(store, tmp_path, monkeypatch, place, how):
    store.save(1, b"code")
    (path,) = (tmp_path / "base").glob(place)
    if how == "others may write":
        path.chmod(path.stat().st_mode | 0o020)
    elif os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    before = sorted((tmp_path / "base").rglob("*"))
    assert store.load(1) is None
    if path.is_file():  # another takes its place
        store.save(1, b"code")
        assert store.load(1) == b"code"
        return
    mend = "Point NUMBA" if how == "belongs to another user" else f"Run `chmod go-w {path}`"
    with pytest.warns(RuntimeWarning, match=f"{how}.*{mend}"):
        store.save(1, b"code")
    store.save(2, b"code")  # warns no more
    assert sorted((tmp_path / "base").rglob("*")) == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(compiled_cache, tmp_path):
    shutil.copytree(compiled_cache, tmp_path, dirs_exist_ok=True)
    for entry in entries(tmp_path):
        entry.unlink()
        os.mkfifo(entry, 0o600)
    result = run(SOFTMAX, tmp_path, timeout=60)
    assert (result.stdout.strip(), result.stderr) == (ANSWER, "")
    assert all(entry.is_file() for entry in entries(tmp_path))


def test_a_link_in_place_of_the_directory_is_not_followed(store, tmp_path):
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "fastsoftmax").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(RuntimeWarning, match="not a directory"):
        store.save(1, b"code")
    assert not list(tmp_path.rglob("*.bin"))


def test_directories_that_no_process_has_used_for_a_month_are_removed(store, tmp_path, monkeypatch):
    parent = tmp_path / "base" / "fastsoftmax"
    now = cache.time.time()

    def other(name, days, *files):
        (parent / name).mkdir(0o700, parents=True)
        for file in files:
            (parent / name / file).touch()
        os.utime(parent / name, times=(now - days * 86400,) * 2)

    parent.mkdir(0o700, parents=True)
    other("a" * 24, 31, "kernel.bin", ".kernel.bin.x.part")
    other("b" * 24, 29, "kernel.bin")
    other("c" * 24, 31, "somebody's notes")
    other("not ours", 31, "kernel.bin")
    store.save(1, b"code")
    mine = cache.cache_directory().name
    left = {"b" * 24, "c" * 24, "not ours", mine}
    assert {place.name for place in parent.iterdir()} == left
    # Using a directory is noted in its time.
    os.utime(parent / mine, times=(0, 0))
    cache._stamp.cache_clear()
    assert store.load(1) == b"code"
    assert (parent / mine).stat().st_mtime > now - 60


def test_where_warnings_are_errors_an_unwritable_cache_stops_nothing(store, tmp_path, capsys):
    (tmp_path / "base").write_text("in the way of a directory")  # pytest makes warnings errors
    store.save(1, b"code")
    store.save(2, b"code")
    assert capsys.readouterr().err.count("RuntimeWarning") == 1


NAME = "from fastsoftmax.cpu.cache import cache_directory; print(cache_directory().name)"


def copied(directory):
    shutil.copytree(
        Path(fastsoftmax.__file__).parent,
        directory / "fastsoftmax",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    return directory / "fastsoftmax"


@pytest.mark.parametrize("kind", ["zip", "pyc"])
def test_versions_without_source_files_have_names_of_their_own(tmp_path, kind):
    package = copied(tmp_path / "site")
    names = set()
    for version in ("1", "2", "2"):
        sizes = package / "cpu" / "sizes.py"
        sizes.write_text(sizes.read_text().partition("VERSION")[0] + f"VERSION = {version}\n")
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        if kind == "zip":
            place = shutil.make_archive(place, "zip", package.parent)
        else:
            shutil.copytree(package.parent, place)
            by_hash = py_compile.PycInvalidationMode.CHECKED_HASH  # not by the time of writing
            compileall.compile_dir(
                place, stripdir=place, quiet=1, legacy=True, invalidation_mode=by_hash
            )
            for source in place.rglob("*.py"):
                source.unlink()
        names.add(run(NAME, tmp_path, tmp_path, PYTHONPATH=str(place)).stdout)
    assert len(names) == 2


def test_a_process_that_outlives_an_upgrade_keeps_nothing_under_the_new_name(tmp_path):
    package = copied(tmp_path / "site")
    program = f"""
from pathlib import Path
from fastsoftmax import softmax
from fastsoftmax.cpu.cache import cache_directory
before = cache_directory()
launch = Path({str(package)!r}, "cpu", "launch.py")
launch.write_text(launch.read_text() + "# another version")
assert cache_directory() == before
try:
    softmax([3.0, 1.0, 0.2])
except RuntimeError as error:
    print(error)
"""
    result = run(program, tmp_path / "cache", package.parent)
    assert "start the process again" in result.stdout
    assert entries(tmp_path / "cache") == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_read_only_package_and_a_cache_that_becomes_unwritable(tmp_path):
    """Removed instead where permissions do not bind, as those of the superuser."""
    package = tmp_path / "site" / "fastsoftmax"
    shutil.copytree(Path(fastsoftmax.__file__).parent, package)
    for path in [*package.rglob("*"), package]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    cache = tmp_path / "cache"
    program = """
import os, shutil
import fastsoftmax
print(fastsoftmax.softmax([3.0, 1.0, 0.2]))
os.chmod(os.environ["NUMBA_CACHE_DIR"], 0o555)
shutil.rmtree(os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)
open(os.environ["NUMBA_CACHE_DIR"], "w").close() if os.geteuid() == 0 else None
print(fastsoftmax.log_softmax([[3.0], [1.0]], axis=0).ravel())
"""
    try:
        result = run(program, cache, package.parent)
        assert result.stdout.startswith(ANSWER)
        assert "-0.12692801" in result.stdout
        assert result.stderr.count("RuntimeWarning") == 1
    finally:
        for path in [package, *package.rglob("*")]:
            path.chmod(0o755)


def test_the_directory_is_named_by_all_that_code_depends_on(monkeypatch):
    seen = set()

    def note():
        seen.add(cache.cache_directory().name)

    note()
    for module in (cache.numba, cache.llvmlite, cache.np):
        with monkeypatch.context() as patch:
            patch.setattr(module, "__version__", "99.9")
            note()
    with monkeypatch.context() as patch:
        patch.setattr(cache.sys, "version", "another Python")
        note()
    for magic in (("triple", "znver4", "+a"), ("triple", "znver5", "+a"), ("triple", "znver4", "")):
        with monkeypatch.context() as patch:
            patch.setattr(cache.compiler, "target", lambda magic=magic: magic)
            note()
    for setting in cache._SETTINGS:
        assert hasattr(cache.numba.config, setting)
        with monkeypatch.context() as patch:
            patch.setattr(cache.numba.config, setting, "another")
            note()
    assert len(seen) == 8 + len(cache._SETTINGS)


def test_processes_that_start_at_once_on_an_empty_cache(tmp_path):
    program = """
import sys, numpy as np, ml_dtypes, fastsoftmax
dtype = ["float16", "bfloat16", "float32", "float64"][int(sys.argv[1]) % 4]
x = np.linspace(-3, 3, 200).reshape(2, 100).astype(dtype)
for function in (fastsoftmax.softmax, fastsoftmax.logsumexp):
    print(function(x, axis=-1).tobytes().hex())
"""
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def start(number):
        command = [sys.executable, "-W", "error", "-c", program, str(number)]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    answers = {}
    for _ in range(2):  # from an empty cache, and from what the first ones left
        for number, process in enumerate([start(i) for i in range(8)]):
            text, _ = process.communicate(timeout=200)
            assert process.returncode == 0
            assert answers.setdefault(number % 4, text) == text
    assert not list(tmp_path.rglob("*.part"))


def test_a_warm_cache_can_be_copied(compiled_cache, tmp_path):
    """As into a container's image: another environment on the same CPU compiles nothing."""
    shutil.copytree(compiled_cache, tmp_path / "image")
    package = tmp_path / "other" / "fastsoftmax"
    shutil.copytree(Path(fastsoftmax.__file__).parent, package)
    program = """
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    import fastsoftmax
    print(fastsoftmax.softmax([3.0, 1.0, 0.2]), len(recorder.buffer))
"""
    result = run(program, tmp_path / "image", package.parent)
    assert result.stdout.strip() == f"{ANSWER} 0"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
def test_a_full_disk(tmp_path):
    program = """
import fastsoftmax, os
real = os.open
def full(path, flags, *mode):
    descriptor = real(path, flags, *mode)
    if not str(path).endswith(".part"):
        return descriptor
    os.close(descriptor)
    return real("/dev/full", os.O_RDWR)
os.open = full
print(fastsoftmax.softmax([3.0, 1.0, 0.2]))
"""
    result = run(program, tmp_path)
    assert result.stdout.strip() == ANSWER
    assert "No space left on device" in result.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_numbas_private_parts_are_reached_from_one_module():
    """The others import what Numba's and numba-cuda's documentation writes extensions with."""
    public = (
        r"numba|numba\.extending|numba\.core\.cgutils|numba\.core\.typing(\.templates)?"
        r"|numba\.cuda\.extending"
    )
    private = r"\.core\.registry|_is_initialized|magic_tuple|_rebuild|\._reduce\b|\._cache\b"
    found = {}
    for file in Path(fastsoftmax.__file__).parent.rglob("*.py"):
        text = file.read_text()
        names = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module == "numba.core":
                names |= {f"numba.core.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
        found[file.name] = {
            n for n in names if re.match(r"numba\b", n) and not re.fullmatch(public, n)
        }
        found[file.name] |= set(re.findall(private, text))
    assert [name for name, parts in found.items() if parts] == ["compiler.py"]
