#!/usr/bin/env python
"""Re-execute the whole collection: train what is missing, run notebooks, write HTML.

Everything heavy is imported when it is needed, so that --help answers at once.
"""

import io
import os
import signal
import sys
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import click

from mnistlab import MnistlabError

EPILOG = """\b
Examples:
  python run_all.py                              all reports, from committed runs
  python run_all.py --profile smoke --only mlp   the quickest look
  python run_all.py --profile full --seeds 3     as 2019 did it, three times
  python run_all.py --dry-run                    what would be done, and why
"""


# fmt: off
@click.command(epilog=EPILOG, context_settings={"max_content_width": 88})
@click.option("--profile", metavar="smoke|quick|full",
              help="How much is trained; full runs are committed and not trained "
                   "again. Default: as the notebook's cell says, full.")
@click.option("--dataset", metavar="mnist|PATH",
              help="The images; PATH is a folder of IDX files or an .npz file of ten "
                   "classes of 28 x 28 bytes. Default: mnist.")
@click.option("--protocol", metavar="replicate|holdout",
              help="Validate on the test set, as 2019 did, or on held-out training "
                   "images. Default: as the notebook's cell says, replicate.")
@click.option("--only", multiple=True, metavar="NOTEBOOK",
              help="Only this notebook; may be given several times.")
@click.option("--seeds", metavar="N", type=click.IntRange(1),
              help="Every model with the seeds 0 to N-1. Default: the committed seeds "
                   "of each model, 0 where there is none.")
@click.option("--workers", metavar="N", type=click.IntRange(1),
              help="Processes of one thread. Default: one per usable core.")
@click.option("--scheduler", metavar="URL",
              help="Train on a running Dask cluster, such as tcp://host:8786.")
@click.option("--timeout", default=600, metavar="S", type=click.IntRange(1),
              help="Seconds that a notebook may take. Default: 600.")
@click.option("--cell-timeout", metavar="S", type=click.IntRange(1),
              help="Seconds that a cell may take. Default: as its notebook.")
@click.option("--fresh", is_flag=True, help="Train and execute all again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and why.")
@click.option("--out", default="build", metavar="DIR",
              help="The output folder. Default: build.")
@click.option("-p", "assignments", multiple=True, metavar="NAME=VALUE",
              help="Set a parameter of every selected notebook that has it.")
# fmt: on
def command(
    profile, dataset, protocol, only, seeds, workers, scheduler, timeout, cell_timeout,
    fresh, dry_run, out, assignments,
):  # fmt: skip
    """Train what is missing, execute the notebooks, and write the site as HTML."""
    warnings.showwarning = _show_warning
    # A user's own settings are no part of the figures of the index either.
    os.environ["MATPLOTLIBRC"] = os.devnull
    _answer_interrupts()
    from mnistlab import data

    try:
        from reports import build, pages
    except ValueError as error:  # of an experiment or a recipe that cannot be
        raise click.ClickException(f"mnistlab/models: {error}") from error
    from mnistlab.study import StudyError, lock_output

    if workers and scheduler:
        raise StudyError("--workers and --scheduler exclude each other; give one")
    out = Path(out).absolute()
    dataset = None if dataset is None else data.resolve(dataset)
    images = data.load(dataset or "mnist")
    given = {
        "dataset": dataset,
        "profile": profile,
        "protocol": protocol,
        "seeds": seeds and tuple(range(seeds)),
    }
    options = {name: value for name, value in given.items() if value is not None}
    assigned = dict(pages.parse_assignment(text) for text in assignments)
    shown = pages.pages(only, options, assigned, images)
    click.echo(f"Data: {images.sentence}.")
    if dry_run:
        return _dry_run(build.plan(shown, out, images, fresh=fresh))
    with lock_output(out):
        planned = build.plan(shown, out, images, fresh=fresh)
        return _run(planned, workers, scheduler, timeout, cell_timeout)


def _answer_interrupts():
    """An interrupt ends the build in good order, also one that Python has dropped."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = _interrupt_again


def _interrupt_again(dropped):
    """Python drops what is raised in callbacks, such as those of its imports."""
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(dropped)


def _interrupt(number, frame):
    """Ctrl-C ends the build in good order; a second one ends it at once."""
    def at_once(number, frame):
        with suppress(OSError):
            click.echo("Stopped at once; the same command goes on from here.", err=True)
        os._exit(130)  # workers and notebooks see it, and end themselves

    for signals in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signals, at_once)
    with suppress(OSError):
        click.echo("Interrupted; publishing what is complete. Again to stop at once.")
    raise KeyboardInterrupt


def _show_warning(message, *_, **__):
    """A line without the place in our source, which helps nobody."""
    with suppress(OSError):
        click.secho(f"WARNING: {message}", fg="yellow", err=True)


def _dry_run(planned):
    from reports.build import why_execute

    for spec in planned.specs:
        why = planned.missing.get(spec)
        click.echo(f"run       {spec.title:24} {f'train ({why})' if why else 'reuse'}")
    for page in planned.pages:
        why, *_ = why_execute(planned, page, planned.missing)
        what = f"{'fail' if page.problem else 'execute'} ({why})" if why else "reuse"
        click.echo(f"notebook  {page.name:24} {what}")
    return 0


def _run(planned, workers, scheduler, timeout, cell_timeout):
    from dask.system import cpu_count

    from mnistlab.progress import Board, expected_seconds, forecast, in_terminal
    from mnistlab.schedule import longest_first, train_runs
    from reports import build, index, site

    out, missing = planned.out, planned.missing
    waiting = dict.fromkeys((page.name for page in planned.pages), "waiting")
    at_a_time = workers or cpu_count()
    expected = expected_seconds(list(missing))
    board = Board(expected, 1 if scheduler else at_a_time, waiting)
    # Should this build end in the middle, nobody is to take an old summary for its own.
    (out / "summary.json").unlink(missing_ok=True)
    site.begin(out, planned.names, waiting)
    there = len(planned.specs) - len(missing)
    click.echo(f"Runs: {len(missing)} to train, {there} reused.")
    if missing and not scheduler:  # of its machines nothing is known
        click.echo(forecast(board))
    with in_terminal(board) as (of_run, of_page):

        def train(note):
            def report(progress):
                of_run(progress)
                note(progress)

            train_runs(
                longest_first(missing), planned.dataset, out, workers=workers,
                scheduler=scheduler, fresh=planned.fresh, report=report,
            )  # fmt: skip

        published, ended_by = build.publish_pages(
            planned, workers=at_a_time, timeout=timeout, cell_timeout=cell_timeout,
            train=train, report=of_page,
        )  # fmt: skip
    index.write_site(published, out, planned.names, planned.dataset)
    interrupted = isinstance(ended_by, KeyboardInterrupt)
    failed = ended_by or not all(done.is_good for done in published)
    code = 130 if interrupted else 1 if failed else 0
    build.write_summary(planned, published, code)
    _final_table(planned, published, board.elapsed)
    click.echo(f"Site: {(out / 'site' / 'index.html').as_uri()}")
    if interrupted:
        way = "the same command goes on from here"
        if planned.fresh:
            way = "without --fresh its runs go on, but for those that are in results/"
        click.echo(f"Interrupted; {way}.")
    elif ended_by is not None:
        raise ended_by  # told in a line, after what is complete was published
    return code


def _final_table(planned, published, seconds):
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from reports.build import status_of

    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("notebook", "status", "seconds", "headline")
    for done in published:
        said = done.headline or done.message
        table.add_row(
            escape(done.page.name),
            f"[{'green' if done.is_good else 'red'}]{done.status}",
            f"{done.seconds:.1f}", escape(said),
        )  # fmt: skip
        if console.width < 60:  # too narrow for a table
            click.echo(f"{done.page.name} {done.status} {done.seconds:.1f} s  {said}")
    if console.width >= 60:
        console.print(table)
    for spec, why in planned.failed.items():
        click.secho(f"{spec.title}: {why}", fg="red")
    counts = Counter(status_of(planned, spec) for spec in planned.specs)
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    click.echo(f"Runs: {text}. {seconds:.0f} s." if text else f"{seconds:.0f} s.")


def _prepare_streams():
    """Let closed streams lead nowhere, and escape what others cannot encode."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # else the next file would get its number
            setattr(sys, name, open(os.devnull, mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_unwritable(stream, text=""):
    """Whether nobody can read a stream; then it leads nowhere from now on.

    Else Python would try again at its end, and end with a code of its own.
    """
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True
    return False


def main():
    """Run the command; a user's mistake is one line and exit code 2."""
    _prepare_streams()
    said = ""
    try:
        code = command.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        code, said = 2, f"{error.format_message()} (see --help)"
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except MnistlabError as error:
        code, said = 2 if isinstance(error, ValueError) else 1, str(error)
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        code, said = 2, "this user has no home directory; set HOME to a folder"
    except OSError as error:  # a disk or a terminal that is gone, for instance
        where = "standard output: " * _is_unwritable(sys.stdout, "\n")
        code, said = 1, f"{where}{error}; the same command goes on from here"
    _is_unwritable(sys.stderr, f"run_all.py: {said}\n" if said else "")
    _is_unwritable(sys.stdout)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the exit code is decided
    sys.exit(code)


if __name__ == "__main__":
    main()
