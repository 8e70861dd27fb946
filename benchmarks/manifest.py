"""Time and memory that it takes to load a list of a million images.

    python benchmarks/manifest.py [--rows N] [--profile]

Makes a table (path, label, trusted) with a test table, and the lists of Clothing1M, in a temporary folder.
Only the first image exists: the others would be read in training only. Each list is loaded in a process of
its own. Seconds do not include the import of torch; peak resident memory is printed before loading (after
all imports), after loading, and after the split is written to split.csv.
"""

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 14


def main() -> None:
    """Make the lists, and load each one in a new process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load is not None:
        load(Path(arguments.load), profile=arguments.profile)
        return
    with tempfile.TemporaryDirectory() as folder:
        for make in (make_table, make_clothing1m):
            source = make(Path(folder), arguments.rows)
            command = [sys.executable, __file__, "--load", str(source)]
            subprocess.run(command + ["--profile"] * arguments.profile, check=True)


def names(n: int) -> list[str]:
    """Return n paths like those of Clothing1M."""
    numbers = np.random.default_rng(0).integers(10**9, 10**10, (n, 2)).tolist()
    return [f"images/{k % 10}/{k % 97:02d}/{a},{b}.jpg" for k, (a, b) in enumerate(numbers)]


def make_table(folder: Path, n: int) -> Path:
    """Write a table of n images, one in a hundred trusted, and a test table of 10,000."""
    paths = names(n + 10_000)
    save_image(folder / paths[0])
    for name, start, stop in (("data", 0, n), ("test", n, n + 10_000)):
        with (folder / f"{name}.csv").open("w") as file:
            file.write("path,label,trusted\n")
            file.writelines(
                f'"{paths[k]}",class {k % CLASSES},{int(k % 99 == 1)}\n' for k in range(start, stop)
            )
    return folder / "data.csv"


def make_clothing1m(folder: Path, n: int) -> Path:
    """Write lists as in Clothing1M, of n noisy images and as many clean ones as it has."""
    root = folder / "clothing1m"
    sizes = {"noisy_train": n, "clean_train": 47_570, "clean_val": 14_313, "clean_test": 10_526}
    paths = names(sum(sizes.values()))
    save_image(root / paths[0])
    lines = [f"{path} {k % CLASSES}\n" for k, path in enumerate(paths)]
    start = 0
    for name, size in sizes.items():
        keys = "\n".join(paths[start : start + size])
        (root / f"{name}_key_list.txt").write_text(keys + "\n")
        start += size
    (root / "noisy_label_kv.txt").write_text("".join(lines[:n]))
    (root / "clean_label_kv.txt").write_text("".join(lines[n:]))
    return root


def save_image(path: Path) -> None:
    """Write the one image that is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (300, 300)).save(path)


def load(source: Path, *, profile: bool) -> None:
    """Load a source, and print the seconds and memory it takes."""
    from emlc.config import DataSettings, NoiseSettings
    from emlc.data import make_split

    settings = DataSettings(data=str(source), resize=256, image_size=224)
    if source.is_file():
        settings = replace(settings, trusted_column="trusted", test=str(source.parent / "test.csv"))
    before, start = peak_mib(), time.perf_counter()
    with cProfile.Profile() as profiler:
        if not profile:
            profiler.disable()
        split, _ = make_split(settings, NoiseSettings(), seed=0)
        loaded, after_loading = time.perf_counter() - start, peak_mib()
        assert split.test is not None
        split.save(source.parent / "split.csv")
    seconds = time.perf_counter() - start
    print(
        f"{source.name}: {len(split.noisy):,} noisy, {len(split.trusted):,} trusted, {len(split.test):,} test"
    )
    print(f"  {loaded:.1f} s to load, {seconds:.1f} s with split.csv written")
    print(f"  peak resident memory {before:.0f} MiB before, {after_loading:.0f} MiB, {peak_mib():.0f} MiB")
    if profile:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(40)


def peak_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
