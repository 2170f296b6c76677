"""Render executed notebooks as HTML pages with nbconvert, and others with Jinja2."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader, Template

from mnistlab import reported
from mnistlab.models import COLLECTION
from mnistlab.runs import FULL_MNIST, Run
from mnistlab.store import evidence, write_atomically
from reports.pages import RECORD, read_published

TEMPLATES = Path(__file__).with_name("templates")
SCROLL = {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "Table"}


@cache
def look() -> str:
    """SHA-256 of what decides how pages look, but for the files that they link to."""
    digest = hashlib.sha256(version("nbconvert").encode())
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".j2", ".json") and path.name[0] != ".":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def write_page(path: Path, parts: Sequence[object], make: Callable[[], str]) -> None:
    """Write a page as `make` makes it, unless it is there and made of the same parts.

    What it is made of is noted at its end.
    """
    text = json.dumps([look(), *parts], default=str, sort_keys=True)
    made_of = hashlib.sha256(text.encode()).hexdigest()
    mark = f"\n<!-- made of {made_of} -->\n".encode()
    if not path.exists() or not path.read_bytes().endswith(mark):
        write_atomically(path, make().encode() + mark)


def update_page(out: Path, name: str, names: Sequence[str], failure: str = "") -> None:
    """Render a page of the site anew if its notebook, its look or its banner changed.

    Args:
        out: the output folder, with the executed notebook in `notebooks/`.
        name: which page.
        names: all pages of the site.
        failure: how its last execution ended, if badly: then what there is of it in
            `failed/` has a page of its own, and the last good page has a banner.
    """
    site, good = out / "site", out / "notebooks" / f"{name}.ipynb"
    failed = site / "failed" / f"{name}.html"

    def update(path: Path, notebook: Path, root: str, banner: str) -> None:
        content = notebook.read_text("utf-8") if notebook.exists() else ""
        write_page(
            path,
            (content, names, root, banner),
            lambda: render(content, name, names, site, root, banner),
        )

    if failure:
        attempt = out / "failed" / f"{name}.ipynb"
        update(failed, attempt, "../", f"This execution ended as {failure}")
    else:
        failed.unlink(missing_ok=True)
    published = read_published(good)
    if published is None:
        write_missing(site, name, names)
        return
    banner = ""
    if failure:
        status, when = failure.partition(":")[0], published["executed"]
        banner = f"The last execution ended as {status}; this page is of {when}."
    update(site / f"{name}.html", good, "", banner)


def render(
    content: str,
    page: str,
    pages: Sequence[str],
    site: Path,
    root: str = "",
    banner: str = "",
) -> str:
    """One notebook as an HTML page that loads nothing from another host.

    Links to run records are turned to the copies below the site. `site` is the folder
    that files it refers to are copied to, `root` the way from the page to it, `banner`
    a sentence above the notebook. The content is empty if nothing was executed.
    """
    import nbformat

    from reports import static

    if content:
        notebook = nbformat.reads(content, as_version=4)
    else:
        cells = [nbformat.v4.new_markdown_cell("# Nothing was executed")]
        notebook = nbformat.v4.new_notebook(cells=cells)
    about = head(page, pages, title_of(notebook, page), root)
    _say_what_is_empty(notebook)
    places = static.prepare(notebook, page)
    exporter = static.Exporter(
        template_name="mnistlab",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    about |= {"banner": banner, "has_code": True}
    resources = {"metadata": {"name": page}, "mnistlab": about}
    text, _ = exporter.from_notebook_node(notebook, resources)
    tree = BeautifulSoup(text, "html.parser")
    static.settle(tree, page, pages, places, root, site)
    _list_headings(tree)
    return finished(tree, root)


def _say_what_is_empty(notebook: Any) -> None:
    """Turn figures that show nothing but a sentence into that, said once a page."""
    said = set()
    for cell in notebook.cells:
        for output in list(cell.get("outputs", ())):
            about = output.get("metadata", {}).get("image/png", {})
            if about.get("empty") and about["alt"] in said:
                cell.outputs.remove(output)
            elif about.get("empty"):
                output.data = {"text/markdown": about["alt"]}
                said.add(about["alt"])


def _list_headings(tree: Any) -> None:
    """List the headings of a page beside it; those of the same words are numbered."""
    seen: Counter[str] = Counter()
    contents = tree.new_tag("ul")
    for heading in tree.main(["h2", "h3"], id=True):
        name, said = heading["id"], heading.get_text().removesuffix("¶")
        seen[name] += 1
        if seen[name] > 1:
            heading["id"] = name = f"{name}-{seen[name]}"
            for anchor in heading("a", class_="anchor-link"):
                anchor["href"] = f"#{name}"
        item = tree.new_tag("li", attrs={"class": f"level{heading.name[1]}"})
        link = tree.new_tag("a", href=f"#{name}")
        link.string = said
        item.append(link)
        contents.append(item)
    if seen:
        tree.aside.nav.append(contents)


def finished(tree: Any, root: str = "") -> str:
    """A parsed page as text: wide tables scroll, links lead to copies of records."""
    for lines in tree("pre"):
        lines["tabindex"] = "0"  # to scroll without a mouse
    # The duel has full runs as 2019's only.
    full = {f"{r.name}/{r.key16}" for r in evidence() if r.compares_with_2019}
    for table in tree("table"):
        box = table.wrap(tree.new_tag("div", attrs=SCROLL))
        if link := _duel(table, root, full):
            box.insert_after(BeautifulSoup(link, "html.parser"))
    for link in tree("a", href=RECORD):
        link["href"] = RECORD.sub(rf"{root}runs/\1/\2.json", link["href"])
    return str(tree)


def _duel(table: Any, root: str, full: Collection[str]) -> str:
    """A link to the duel of the first two models of a table, if it has as many."""
    firsts: dict[str, str] = {}
    for link in table("a", href=RECORD):
        run = RECORD.sub(r"\1/\2", link["href"])
        if run in full:
            firsts.setdefault(run.partition("/")[0], run)
    if len(firsts) < 2:
        return ""
    (one, a), (two, b) = list(firsts.items())[:2]
    link = f'<a href="{root}duel.html#{a},{b}">{one} and {two} side by side</a>'
    return f'<p class="caption">{link}, or any other two full runs.</p>'


def copy_records(runs: Sequence[Run], site: Path) -> None:
    """Copy the records that pages link to below the site."""
    for run in runs:
        target = site / "runs" / run.name / f"{run.key16}.json"
        write_atomically(target, (run.folder / "run.json").read_bytes())


def begin(out: Path, pages: Sequence[str], planned: Collection[str] = ()) -> None:
    """Write what pages need, and those of earlier builds as they look now.

    Those that are `planned` and there are left to the build.
    """
    site = out / "site"
    for path in TEMPLATES.glob("mnistlab/[!.]*.*s"):  # scripts and styles
        write_atomically(site / path.name, path.read_bytes())
    for name in pages:
        waits = name in planned and (site / f"{name}.html").exists()
        if not waits and not (site / "failed" / f"{name}.html").exists():
            update_page(out, name, pages)


def write_missing(site: Path, name: str, pages: Sequence[str]) -> None:
    """Write a page that says that there is none, and what failed if it did."""
    text = template("missing.html.j2").render(
        site=head(name, pages, f"{name} is not published"),
        failed=(site / "failed" / f"{name}.html").exists(),
    )
    write_atomically(site / f"{name}.html", text.encode())


def environment(runs: Sequence[Run], pages: Sequence[str]) -> str:
    """The page that says what each run was made with, and how to make it again."""
    text = template("environment.html.j2").render(
        site=head("environment", pages, "What these runs were made with"),
        machines=Counter(tuple(_machine(run).items()) for run in runs),
        runs=runs,
        finals=reported.finals(),
        command=command,
    )
    return finished(BeautifulSoup(text, "html.parser"))


def template(name: str) -> Template:
    """A template of the site, which escapes what it is given."""
    folder = FileSystemLoader(TEMPLATES / "mnistlab")
    return Environment(loader=folder, autoescape=True).get_template(name)


def head(page: str, pages: Sequence[str], title: str, root: str = "") -> dict[str, Any]:
    """What the header of a page needs; `root` is the way to the site's top."""
    return {"root": root, "page": page, "pages": pages, "title": f"{title} · mnistlab"}


def _machine(run: Run) -> dict[str, str]:
    """What a run was made on, and with which versions."""
    made = run.record["environment"]
    packages = made.get("packages", {})
    facts = {
        "processor": made.get("processor", "unknown"),
        "GPUs": ", ".join(made.get("gpus", ())) or "none",
        "cores": made.get("cores", "unknown"),
        "system": made.get("platform", "unknown"),
        "Python": made.get("python", "unknown"),
        "packages": ", ".join(f"{k} {v}" for k, v in sorted(packages.items())),
        "backend": run.record["backend"],
        "threads a run": run.record["threads"],
    }
    return {name: str(value) for name, value in facts.items()}


def command(run: Run) -> str:
    """The command that makes a run again, in a checkout of its commit."""
    from mnistlab.models import CONTROLS
    from mnistlab.study import PROFILES

    record = run.record
    if run.name in {experiment.name for experiment in CONTROLS}:
        return "make evidence"
    if run.name not in COLLECTION:
        return "study(...) in the notebook that defines it"
    parts = [
        "python run_all.py --fresh",
        f"--only {run.name.partition('_')[0]}",
        f"--profile {record['profile']}",
    ]
    dataset = record["dataset"]["name"]
    if dataset != "mnist":
        parts.append("--dataset FOLDER")
    if record["protocol"] != "replicate":
        parts.append(f"--protocol {record['protocol']}")
    parts.append(f"--seeds {run.seed + 1}")
    profile = PROFILES[record["profile"]]
    if record["epochs"] != (profile.epochs or run.experiment.recipe.epochs):
        parts.append(f"-p epochs={record['epochs']}")
    usual = FULL_MNIST[0] if dataset == "mnist" else 0  # of a folder nothing is known
    if record["train_size"] != min(profile.train_size or usual, usual):
        parts.append(f"-p train_size={record['train_size']}")
    text = " ".join(parts)
    backend = record["backend"]
    return text if backend == "tensorflow" else f"KERAS_BACKEND={backend} {text}"


def title_of(notebook: Any, name: str) -> str:
    """The first heading of a notebook, without the sign."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.splitlines()[0][2:]
    return name
