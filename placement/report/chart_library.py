"""The library that draws charts, which every page holds: bundled once, and kept beside this file.

Bundling takes two seconds of CPU. The result is the same for one version of vl-convert, and lies
where Python keeps compiled code and numba compiled kernels: in `__pycache__`. Where nothing can be
written there, it is bundled each time.
"""

from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from graphs.whole_files import write_whole

_KEPT = Path(__file__).with_name("__pycache__")


@cache
def chart_library(folder: Path = _KEPT) -> str:
    """Vega, Vega-Lite and vega-embed as one script, fit to stand in a page.

    Args:
        folder: where the script is kept.
    """
    kept = folder / f"charts-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    script = bundle.replace("</script", "<\\/script")
    with suppress(OSError):
        write_whole(kept, script)
    return script
