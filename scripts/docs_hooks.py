"""What the documentation site takes from elsewhere in the repository.

Results become pages as the benchmarks wrote them; examples are shown as they are run by the tests;
pages that a branch does not have are left out of the navigation.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

_FOR_USERS: list[tuple[str, str]] = [
    ("Home", "index.md"),
    ("Tutorial", "tutorial.md"),
    ("Plans worth deploying", "deploying.md"),
    ("Reading a report", "report.md"),
    ("Exports", "exports.md"),
    ("Environments", "environments.md"),
    ("The simulator", "simulator.md"),
    ("Real hardware", "hardware.md"),
    ("File formats", "file_formats.md"),
    ("Scale", "scale.md"),
    ("Untrusted input and faults", "reliability.md"),
    ("Containers", "containers.md"),
]
_FOR_DEVELOPERS: list[tuple[str, str]] = [
    ("Architecture", "architecture.md"),
    ("Glossary", "glossary.md"),
    ("Experiments", "experiments.md"),
    ("Making a release", "releasing.md"),
    ("Licences", "licences.md"),
]
_API = ("graphs", "simulator", "placement", "export", "envs", "agent")


def _present(docs: Path, pages: list[tuple[str, str]]) -> list[Any]:
    return [{title: page} for title, page in pages if (docs / page).exists()]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, with a page per result."""
    docs = Path(config.docs_dir)
    nav: list[Any] = _present(docs, _FOR_USERS)
    nav.append({"Developing graphwright": _present(docs, _FOR_DEVELOPERS)})
    nav.append(
        {"API": [f"api/{name}.md" for name in _API if (docs / "api" / f"{name}.md").exists()]}
    )
    nav.append({"Results": [{name: f"results/{name}.md"} for name in _results()]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Results as pages; the section of each is its file's name where it has no title."""
    for name, path in _results().items():
        text = path.read_text(encoding="utf-8")
        if not text.lstrip().startswith("#"):
            text = f"# {name.replace('_', ' ').replace('/', ', ').capitalize()}\n\n{text}"
        text = re.sub(r"\]\((?!https?:)[^)]*\)", lambda match: match[0].split("](")[0] + "]", text)
        files.append(File.generated(config, f"results/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to results lead to their pages, and `<!-- example NAME -->` becomes the script."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+benchmarks/results/", f"]({up}results/", markdown)

    def script(match: re.Match[str]) -> str:
        code = (ROOT / "docs" / "examples" / f"{match[1]}.py").read_text(encoding="utf-8")
        return f"```python\n{code}```"

    return re.sub(r"<!-- example (\w+) -->", script, markdown)


def _results() -> dict[str, Path]:
    found = sorted(RESULTS.rglob("*.md"))
    return {path.relative_to(RESULTS).with_suffix("").as_posix(): path for path in found}
