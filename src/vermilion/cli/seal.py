"""`vermilion seal` and `vermilion verify`: say that a file was made by AI, and check it."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

import vermilion as vm
from vermilion.cli import notes
from vermilion.cli.sealing import Mark, Place, Public, Reason, SpokenMark, Style, seal_options
from vermilion.cli.show import AsJson, Quiet, out, print_json, shown, work_bar
from vermilion.errors import InputError, VermilionError

_SIGNS = {
    "good": "[green]✓[/]",
    "bad": "[red]✗[/]",
    "absent": "[yellow]○[/]",
    "unknown": "[dim]·[/]",
}


class FileFirst(TyperGroup):
    """`seal FILE` is `seal file FILE`, so that the usual thing needs no word of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in where it is left out."""
        if args and args[0] not in self.commands and args[0] not in ("--help",):
            args = ["file", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=FileFirst,
    no_args_is_help=True,
    help="Seal a file that was made elsewhere: vermilion seal FILE. Look after the seal itself.",
)


@app.command("file")
def file(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="That you have the right to label.")],
    target: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File or folder to write to.  [default: NAME-sealed]"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what lies there already.")
    ] = False,
    language: Annotated[
        str | None,
        typer.Option(help="Of the mark: zh and ja say AI生成, others AI-generated."),
    ] = None,
    composite: Annotated[
        bool, typer.Option("--composite", help="A person's work with parts by AI.")
    ] = False,
    mark: Mark = True,
    reason: Reason = "",
    public: Public = False,
    place: Place = "bottom-right",
    style: Style = "auto",
    spoken: SpokenMark = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Take a file into the library and write it sealed: marked, labelled, signed.

    For what AI made elsewhere and you have the right to label. The file itself stays as it is.
    """
    options = seal_options(mark, reason, public, place, style, spoken=spoken)
    with vm.Line() as line:
        asset, paths = vm.seal_file(
            line.library,
            line.sealer,
            path,
            line.settings.max_file_bytes,
            guard=line.guard,
            out=target,
            overwrite=overwrite,
            language=language,
            composite=composite,
            options=options,
        )
    if as_json:
        print_json({"id": asset.id, "files": [str(path) for path in paths]})
        return
    for written in paths[:1] if quiet else paths:
        out.print(str(written), markup=False, soft_wrap=True)
    if not quiet:
        notes.warn([asset])
        words = f"sealed as {asset.id}; look: vermilion verify {shlex.quote(str(paths[0]))}"
        out.print(words, markup=False, soft_wrap=True)
        for parent in asset.parents:
            words = f"it comes from {parent}, which was sealed here, and may carry its mark too"
            out.print(words, markup=False, soft_wrap=True)


@app.command("index")
def index(
    folder: Annotated[Path, typer.Argument(help="What the model was trained on.")],
    model: Annotated[str, typer.Option(help="Name of the model, or path of its folder.")],
    source: Annotated[str, typer.Option(help="Name of the set.  [default: the folder's]")] = "",
    quiet: Quiet = False,
) -> None:
    """Take fingerprints of a training set, so that near copies of it are told.

    They lie in the model's folder as prints.safetensors, and are asked whenever something that this
    model made is sealed or verified.
    """
    with work_bar(shown(quiet, False)) as progress:
        task = progress.add_task("taking fingerprints", total=None)

        def on_file(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        path, count = vm.index_training_set(vm.get_settings(), folder, model, source, on_file)
    out.print(str(path) if quiet else f"{path}: {count} fingerprints", markup=False, soft_wrap=True)


@app.command()
def init(
    cert: Annotated[
        Path | None, typer.Option(help="Your certificate and its issuers, PEM.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM, without a password.")] = None,
    tsa: Annotated[
        str | None, typer.Option(help="Address of a time-stamp authority, asked at each signature.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make the authority that signs here, or take your own certificate for it."""
    if (cert is None) != (key is None):
        raise InputError("cert: --cert and --key belong together; give both or neither")
    if cert is None and tsa is not None:
        raise InputError("tsa: a time-stamp authority needs --cert and --key of your own")
    authority = _sealer().authority
    if cert is not None and key is not None:
        authority = authority.replace(_read(cert, "cert"), _read(key, "key"), tsa)
    facts = authority.facts()
    if as_json:
        print_json(facts)
        return
    if quiet:
        out.print(str(facts["fingerprint"]))
        return
    for name, value in facts.items():
        out.print(f"[dim]{name.replace('_', ' '):<15}[/] {escape(str(value))}", soft_wrap=True)


def _sealer() -> vm.Sealer:
    return vm.sealer_of(vm.get_settings())


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what}: {path} cannot be read: {error.strerror}") from None


@app.command()
def audit(
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A copy to find the origin of.")
    ] = None,
    known: Annotated[
        str, typer.Option(help="Hash of the ledger's head that you wrote down earlier.")
    ] = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check the ledger's chain; with a file, find which asset it is a copy of.

    Exit code 1: the ledger was changed.
    """
    sealer, verdict = _sealer(), None
    result = sealer.ledger.audit(known=known)
    if path is not None:
        verdict = vm.verify_file(sealer, path, vm.get_settings().max_file_bytes)
    if as_json:
        print_json(
            {"audit": asdict(result), "file": None if verdict is None else _json(path, verdict)}
        )
    elif quiet:
        out.print("whole" if result.ok else "changed")
        if verdict is not None:
            out.print(verdict.asset_id or "unknown")
    else:
        _show_audit(result)
        if verdict is not None:
            _show(path, verdict)
    if not result.ok:
        raise typer.Exit(1)


def _show_audit(result: Any) -> None:
    did = ", ".join(f"{count} {action}" for action, count in result.actions.items()) or "none"
    state = "whole" if result.ok else "[red]changed[/]"
    out.print(f"the ledger is {state}: {result.entries} entries ({did})", soft_wrap=True)
    for problem in result.problems:
        out.print(f"  {escape(problem.text)}", soft_wrap=True)
    for note in result.notes:
        out.print(f"  {escape(note)}", soft_wrap=True)
    if result.entries:
        out.print(f"[dim]its head, to write down: {result.head}[/]", soft_wrap=True)


def verify(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files or folders.")],
    model: Annotated[
        str | None,
        typer.Option(help="That may have written the texts: its watermark is looked for."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check what files say about their making: signature, signer, label, watermark, ledger.

    Exit code 0: all is well. 2: a file cannot be read.
    Else the smallest of what is wrong or missing: 10 signature, 11 signer,
    12 label, 13 IPTC source type, 14 mark, 15 watermark, 16 ledger, 17 originality.
    """
    paths = vm.files_in(files)
    settings, sealer = vm.get_settings(), _sealer()
    hidden = None if model is None else vm.hidden_words(settings, sealer, model)
    found: list[Any] = []
    with work_bar(shown(quiet, as_json) and len(paths) > 1) as progress:
        task = progress.add_task("looking", total=len(paths))
        for path in paths:
            one: Any
            try:
                one = vm.verify_file(sealer, path, settings.max_file_bytes, hidden)
            except VermilionError as error:
                one = error
            found.append(one)
            if not as_json:
                _tell(path, one, quiet, brief=len(paths) > 1)
            progress.advance(task)
    if as_json:
        print_json([_json(path, one) for path, one in zip(paths, found, strict=True)])
    elif not quiet and len(paths) > 1:
        good = sum(one.exit_code == 0 for one in found)
        out.print(f"{len(paths)} files, {good} in order")
    failed = [one.exit_code for one in found if one.exit_code]
    if failed:
        raise typer.Exit(min(failed))


def _tell(path: Path, one: Any, quiet: bool, brief: bool) -> None:
    """One file's verdict, or why there is none; of many files one in order takes a line."""
    if brief and not quiet and one.exit_code == 0:
        line = f"{_SIGNS['good']} [bold]{escape(str(path))}[/]  {escape(one.summary)}"
        out.print(line, soft_wrap=True)
    elif quiet:
        out.print(f"{one.exit_code} {path}", markup=False, soft_wrap=True)
    elif isinstance(one, VermilionError):
        out.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True)
        out.print(f"  {_SIGNS['bad']} {escape(str(one))}", soft_wrap=True)
    else:
        _show(path, one)


def _json(path: Path | None, verdict: Any) -> dict[str, Any]:
    if isinstance(verdict, VermilionError):
        said = {"error": str(verdict), "kind": type(verdict).__name__}
        return {"file": str(path), **said, "exit_code": verdict.exit_code}
    return {
        "file": str(path),
        "summary": verdict.summary,
        "asset_id": verdict.asset_id,
        "exit_code": verdict.exit_code,
        "findings": [asdict(finding) for finding in verdict.findings],
        "ingredients": [asdict(one) for one in verdict.credential.ingredients],
    }


def _show(path: Path | None, verdict: Any) -> None:
    out.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True)
    out.print(f"  {escape(verdict.summary)}", soft_wrap=True)
    for finding in verdict.findings:
        sign = _SIGNS[finding.state]
        out.print(f"  {sign} {finding.what:<11} {escape(finding.words)}", soft_wrap=True)
    for one in verdict.credential.ingredients:
        out.print(f"    made from   {escape(one.title)}", soft_wrap=True)
