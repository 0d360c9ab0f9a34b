"""`python -m jtorch`: run a script with `torch` meaning jtorch; look at the installation; keep the disk cache.

    python -m jtorch script.py [arguments]      run a script (a folder or zip file with a __main__.py works as well)
    python -m jtorch -m module [arguments]      run a module
    python -m jtorch info                       versions, CPU features, BLAS kernels, threads, cache
    python -m jtorch cache                      where the disk cache is, how large, and its limit
    python -m jtorch cache --limit 256M         keep it under a size, now and in later processes
    python -m jtorch cache --clear              empty it

A script runs as `python script.py` runs it: sys.argv, sys.path[0], __main__, exit status and tracebacks are the same.
"""
from __future__ import annotations

import argparse
import os
import runpy
import sys
from types import TracebackType

from jtorch import report
from jtorch.runtime import cache
from jtorch.stand_in import install


def own_frames_off(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of this file and of runpy that stand before the script's."""
    own = (__file__, runpy.__file__, "<frozen runpy>")
    while traceback is not None and traceback.tb_frame.f_code.co_filename in own:
        traceback = traceback.tb_next
    return traceback


def run(target: str, arguments: list[str], module: bool) -> None:
    """Run a script or module as __main__ with `torch` meaning jtorch."""
    install()
    sys.argv[:] = [target, *arguments]
    if not module and not sys.flags.safe_path and os.path.isfile(target):
        sys.path[0] = os.path.dirname(os.path.realpath(target))
    try:
        if module:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(target, run_name="__main__")
    except SystemExit:
        raise
    except BaseException as error:
        # Print the script's part alone, through the hook that it may have set; Python itself sees to the exit status.
        traceback = own_frames_off(error.__traceback__)
        if traceback is None and isinstance(error, (ImportError, OSError)):  # the script or module was not found
            print(f"{sys.executable}: {error}", file=sys.stderr)
            sys.exit(1 if module else 2)
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
        sys.excepthook = lambda *_: None
        raise


def keep_cache(arguments: list[str]) -> None:
    """The command `cache`."""
    parser = argparse.ArgumentParser(prog="python -m jtorch cache", description="Show, bound or clear the disk cache.")
    parser.add_argument("--limit", metavar="SIZE", type=cache.bytes_of,
                        help="keep it under SIZE (bytes, or with K, M or G), now and in later processes")
    parser.add_argument("--clear", action="store_true", help="remove all entries")
    options = parser.parse_args(arguments)
    kept = cache.default()
    if options.clear:
        entries, size = kept.clear()
        print(f"removed {entries} entries, {report.size_text(size)}")
    if options.limit is not None:
        try:
            kept.bound(options.limit)
        except OSError as error:
            sys.exit(f"cannot bound the cache: {error}")
    print(report.cache_text())


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").strip(), file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    first, *rest = arguments
    if first == "info" and not rest:
        print(report.info())
    elif first == "cache":
        keep_cache(rest)
    elif first == "-m":
        if not rest:
            sys.exit("python -m jtorch -m: the name of a module is missing")
        run(rest[0], rest[1:], module=True)
    elif first.startswith("-"):
        sys.exit(f"python -m jtorch: unknown option {first}\n\n{(__doc__ or '').strip()}")
    else:
        run(first, rest, module=False)


if __name__ == "__main__":
    main(sys.argv[1:])
