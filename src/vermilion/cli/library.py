"""`vermilion library`: what was made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli.sealing import Mark, Place, Public, Reason, SpokenMark, Style, seal_options
from vermilion.cli.show import (
    AsJson,
    Quiet,
    asset_json,
    err,
    one_line,
    out,
    print_json,
    shown,
    spinner,
    work_bar,
)
from vermilion.disk import human_size
from vermilion.errors import InputError

app = typer.Typer(no_args_is_help=True, help="What was made: list, show, find, export, remake.")

Ref = Annotated[str, typer.Argument(metavar="ID", help="Of the asset; its beginning is enough.")]
Kind = Annotated[str | None, typer.Option(help="Only this kind: text, speech, picture, page.")]


def _open() -> vm.Library:
    return vm.Library.open(vm.get_settings().library_dir)


def _table(rows: list[Any], last: str = "") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("id", "kind", "made", "stars", "text", *([last] if last else [])):
        table.add_column(heading, no_wrap=heading != "text")
    for asset, *more in rows:
        when = asset.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
        stars = "" if asset.rating is None else "★" * asset.rating
        text = escape(one_line(asset.text))
        table.add_row(asset.id, asset.kind, when, stars, text, *map(escape, more))
    return table


@app.command("list")
def list_(
    kind: Kind = None,
    set_id: Annotated[str | None, typer.Option("--set", help="Only this finished set.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Only of models under this licence, such as Apache-2.0.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 50,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List assets, the newest first."""
    with _open() as library:
        assets = library.list(kind=kind, set_id=set_id, licence=licence, limit=limit)
    if as_json:
        print_json([asset_json(asset) for asset in assets])
    elif quiet:
        for asset in assets:
            out.print(asset.id)
    elif not assets and (kind or set_id or licence):
        out.print("nothing here is of that kind, set or licence; all: vermilion library list")
    elif not assets:
        out.print('nothing here yet; make something: vermilion write "..."')
    else:
        out.print(_table([(asset,) for asset in assets]))


@app.command()
def find(
    query: Annotated[str, typer.Argument(help="Words, in any language.")],
    kind: Kind = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find assets by words in their text or their prompt, and pictures by what they show.

    For the latter a model is needed that knows pictures: vermilion models pull clip-vit-b-32. It
    looks at the pictures that it does not know in the background.
    """
    with vm.Line() as line:
        hits, missing = vm.find_by_meaning(line.library, line.loader, query, kind, limit)
    if missing:
        _index_in_background()
        if not quiet and not as_json:
            err.print(f"{missing:,} pictures are looked at now, in the background")
    if as_json:
        rows = [{**asset_json(h.asset), "score": h.score, "reason": h.reason} for h in hits]
        print_json(rows)
    elif quiet:
        for hit in hits:
            out.print(hit.asset.id)
    elif not hits:
        out.print("nothing found")
    else:
        out.print(_table([(hit.asset, hit.reason) for hit in hits], "why"))


@app.command()
def index(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Let the model that knows pictures look at all that it does not know yet."""
    with vm.Line() as line, work_bar(shown(quiet, as_json)) as progress:
        task = progress.add_task("looking at pictures", total=None)

        def on_pictures(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        name, count = vm.index_pictures(line.library, line.loader, on_pictures)
    if as_json:
        print_json({"model": name, "pictures": count})
    elif not quiet:
        out.print(f"{name} has looked at {count:,} pictures", markup=False)


def _index_in_background() -> None:
    """Start `vermilion library index` as a process that outlives this one."""
    subprocess.Popen(
        [sys.executable, "-m", "vermilion", "library", "index", "--quiet"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@app.command()
def show(ref: Ref, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Show an asset, how it was made, and its family."""
    with _open() as library:
        asset = library.get(ref)
        lineage = library.lineage(asset.id)
    if as_json:
        print_json({**asset_json(asset), "descendants": [r.id for r in lineage.descendants]})
        return
    out.print(asset.text, markup=False, soft_wrap=True)
    if quiet:
        return
    prompt, model = asset.recipe.get("prompt", {}), asset.recipe.get("model", {})
    facts = {
        "id": asset.id,
        "file": f"{asset.path} ({human_size(asset.size)})",
        "made": asset.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "model": model.get("name", ""),
        "seed": prompt.get("seed", ""),
        "licence": asset.licence,
        "rating": asset.rating or "",
        **notes.rows(asset),
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        if value == "":
            continue
        table.add_row(f"[dim]{name}[/]", escape(str(value)))
    out.print()
    out.print(table)
    for title, relatives in (("made from", lineage.ancestors), ("used in", lineage.descendants)):
        if relatives:
            tree = Tree(title)
            _grow(tree, relatives)
            out.print(tree)


def _grow(tree: Tree, relatives: Any) -> None:
    for relative in relatives:
        if relative.asset is None:
            branch = tree.add(f"{relative.id} [dim](removed)[/]")
        else:
            words = escape(one_line(relative.asset.text))
            branch = tree.add(f"{relative.id} {relative.asset.kind} [dim]{words}[/]")
        _grow(branch, relative.beyond)


@app.command()
def add(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="What to take in: files or folders.")
    ],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take files into the library, with what other tools wrote into them.

    A1111, ComfyUI, InvokeAI and Fooocus leave their prompt and settings in pictures. What is here
    already is not kept twice. One that cannot be read does not stop the others; exit code 2 then.
    """
    rows: list[dict[str, Any]] = []
    failed = 0
    with vm.Line() as line, work_bar(shown(quiet, as_json) and len(files) > 1) as progress:
        paths = vm.files_in(files)
        task = progress.add_task("taking in", total=len(paths))
        for path in paths:
            try:
                asset, is_new = vm.add_file(
                    line.library,
                    line.sealer,
                    path,
                    line.settings.max_file_bytes,
                    guard=line.guard,
                )
            except InputError as error:
                failed = error.exit_code
                rows.append({"file": str(path), "error": str(error), "kind": type(error).__name__})
                if not as_json:
                    words = str(error) if str(path) in str(error) else f"{path}: {error}"
                    err.print(words, markup=False, soft_wrap=True)
            else:
                rows.append({"file": str(path), "new": is_new, **asset_json(asset)})
                if not as_json:
                    out.print(_added(path, asset, is_new, quiet), markup=False, soft_wrap=True)
                if is_new and shown(quiet, as_json):
                    notes.warn([asset])
            progress.advance(task)
    if as_json:
        print_json(rows)
    if failed:
        raise typer.Exit(failed)


def _added(path: Path, asset: Any, is_new: bool, quiet: bool) -> str:
    if quiet:
        return str(asset.id)
    tool = asset.recipe.get("made_with", {}).get("tool", "")
    made = f", made with {tool}" if tool else ""
    return f"{asset.id}: {path}{made if is_new else ', is here already'}"


@app.command()
def export(
    ref: Ref,
    folder: Annotated[Path, typer.Argument(help="Where to; made if it is not there.")],
    suffix: Annotated[
        str | None, typer.Option("--format", help="Another format: wav, flac, mp3; png, jpg, webp.")
    ] = None,
    mark: Mark = True,
    reason: Reason = "",
    public: Public = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="For commercial use; stops if the licence forbids.")
    ] = False,
    place: Place = "bottom-right",
    style: Style = "auto",
    spoken: SpokenMark = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an asset's file into a folder, sealed, under a name that people can read."""
    options = seal_options(mark, reason, public, place, style, commercial=commercial, spoken=spoken)
    with vm.Line() as line:
        asset = line.library.get(ref)
        paths = vm.export_asset(line.library, line.sealer, asset, folder, suffix, options)
    if as_json:
        print_json({"file": str(paths[0]), "files": [str(path) for path in paths]})
    else:
        for path in paths[:1] if quiet else paths:
            out.print(str(path), markup=False, soft_wrap=True)


@app.command()
def remake(ref: Ref, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Make an asset again from its recipe, and see that it comes out the same."""
    with vm.Line() as line, spinner(shown(quiet, as_json), "making it again"):
        asset, same = line.remake(ref)
    if as_json:
        print_json({**asset_json(asset), "same": same})
    elif same:
        out.print(f"{asset.id}: the same bytes, sha256 {asset.sha256[:16]}…")
    else:
        out.print(f"it came out differently and is kept as {asset.id}")


@app.command()
def rate(
    ref: Ref,
    stars: Annotated[int, typer.Argument(help="1 to 5; 0 takes the rating away.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Rate an asset."""
    with _open() as library:
        asset = library.rate(ref, None if stars == 0 else stars)
    if as_json:
        print_json(asset_json(asset))
    elif not quiet:
        out.print(f"{asset.id}: {'★' * (asset.rating or 0) or 'no rating'}")


@app.command()
def rm(ref: Ref, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Remove an asset and, where no other has the same bytes, its file."""
    with _open() as library:
        asset = library.remove(ref)
    if as_json:
        print_json({"removed": asset.id})
    elif not quiet:
        out.print(f"{asset.id} is removed")
