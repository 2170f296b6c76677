#!/usr/bin/env python
"""Re-execute the whole collection: train what is missing, run notebooks, write HTML.

Everything heavy is imported when it is needed, so that --help answers at once.
"""

import os
import signal
import sys
import time
import warnings
from pathlib import Path

import click

EPILOG = """\b
Examples:
  python run_all.py                              minutes: 4,096 images, 2 epochs
  python run_all.py --profile smoke --only mlp   the quickest look
  python run_all.py --profile full --seeds 3     as 2019 did it, three times
  python run_all.py --dry-run                    what would be done, and why
"""


# fmt: off
@click.command(epilog=EPILOG, context_settings={"max_content_width": 88})
@click.option("--profile", default="full", metavar="smoke|quick|full",
              help="How much is trained; full runs are committed and not trained "
                   "again. Default: full.")
@click.option("--dataset", default="mnist", metavar="mnist|PATH",
              help="The images; PATH is a folder of IDX files or an .npz file of ten "
                   "classes of 28 x 28 bytes. Default: mnist.")
@click.option("--protocol", default="replicate", metavar="replicate|holdout",
              help="Validate on the test set, as 2019 did, or on held-out training "
                   "images. Default: replicate.")
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
def command(**options):
    """Train what is missing, execute the notebooks, and write the site as HTML."""
    return build(**options)


def build(
    profile, dataset, protocol, only, seeds, workers, scheduler, timeout, cell_timeout,
    fresh, dry_run, out, assignments,
):  # fmt: skip
    """Do what the command says and return its exit code."""
    warnings.showwarning = _show_warning
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    from mnistlab import data

    try:
        from reports import pages as plan
    except ValueError as error:  # of an experiment or a recipe that cannot be
        raise click.ClickException(f"mnistlab/models: {error}") from error
    from mnistlab.study import StudyError, lock_output

    if workers and scheduler:
        raise StudyError("--workers and --scheduler exclude each other; give one")
    out = Path(out).absolute()
    dataset = data.resolve(dataset)
    images = data.load(dataset)
    pages = plan.pages(
        only,
        {
            "dataset": dataset,
            "profile": profile,
            "protocol": protocol,
            "seeds": None if seeds is None else tuple(range(seeds)),
        },
        dict(plan.parse_assignment(text) for text in assignments),
        images,
    )
    click.echo(f"Data: {images.sentence}.")
    if dry_run:
        return _dry_run(plan, pages, out, fresh)
    with lock_output(out):
        return _run(
            pages, out, images, workers, scheduler, timeout, cell_timeout, fresh
        )


def _interrupt(number, frame):
    """Ctrl-C ends the build in good order; a second one ends it at once."""
    from reports.execute import end_process_tree

    def at_once(number, frame):
        click.echo("Stopped at once; the same command goes on from here.", err=True)
        end_process_tree(os.getpid(), itself=False)
        os._exit(130)

    for signals in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signals, at_once)
    click.echo("Interrupted; publishing what is complete. Again to stop at once.")
    raise KeyboardInterrupt


def _show_warning(message, *_, **__):
    """A line without the place in our source, which helps nobody."""
    click.secho(f"WARNING: {message}", fg="yellow", err=True)


def _dry_run(plan, pages, out, fresh):
    plans = plan.run_plans(pages, out, fresh=fresh)
    for item in plans:
        what = f"train ({item.reason})" if item.reason else "reuse"
        click.echo(f"run       {item.spec.title:24} {what}")
    trained = {item.spec for item in plans if item.reason}
    for page in pages:
        parts = plan.page_key_parts(page, out, trained)
        reason = "--fresh" if fresh else plan.why_execute(page, parts, out)
        what = f"execute ({reason})" if reason else "reuse"
        click.echo(f"notebook  {page.name:24} {what}")
    return 0


def _run(
    pages, out, images, workers, scheduler, timeout, cell_timeout, fresh
):  # fmt: skip
    import dask.system

    from mnistlab.progress import forecast
    from mnistlab.schedule import Result, longest_first, train_runs
    from mnistlab.study import expected_seconds, find_run
    from reports import build, index, site, terminal
    from reports import pages as plan

    started = time.perf_counter()
    # Should this build end in the middle, nobody is to take an old summary for its own.
    (out / "summary.json").unlink(missing_ok=True)
    names = plan.notebook_names()
    site.begin(out / "site", names)
    plans = plan.run_plans(pages, out, fresh=fresh)
    missing = [item.spec for item in plans if item.reason]
    click.echo(f"Runs: {len(missing)} to train, {len(plans) - len(missing)} reused.")
    if missing:
        click.echo(forecast(expected_seconds(missing)))
    ended = {}

    def train(report, has_ended):
        def and_tell(progress):
            report(progress)
            if progress.kind in ("trained", "failed"):
                ended[progress.spec] = progress
                has_ended(progress.spec, progress.message)

        train_runs(
            longest_first(missing), images, out, workers=workers, scheduler=scheduler,
            fresh=fresh, report=and_tell,
        )  # fmt: skip

    shown = [page.name for page in pages]
    with terminal.reports(missing, shown) as (of_run, begins, of_page):
        published, ended_by = build.publish_pages(
            pages, out, names=names, timeout=timeout, cell_timeout=cell_timeout,
            fresh=fresh, workers=workers or dask.system.cpu_count(), missing=missing,
            train=lambda has_ended: train(of_run, has_ended),
            begins=begins, report=of_page,
        )  # fmt: skip
    results = {}
    for item in plans:
        last = ended.get(item.spec)
        if last is not None:  # also when others were interrupted
            status, message = last.kind, last.message
        else:
            status, message = ("interrupted" if item.reason else "reused"), ""
        there = status in ("trained", "reused")
        run = find_run(out, item.spec) if there else None
        results[item.spec] = Result(item.spec, status, run, message)
    index.write_site(published, out, names, images)
    failed = [done for done in published if done.status not in ("published", "reused")]
    interrupted = isinstance(ended_by, KeyboardInterrupt)
    code = 130 if interrupted else 1 if failed or ended_by else 0
    site.write_summary(out, _summary(results, published, images, code))
    _final_table(results.values(), published, started)
    click.echo(f"Site: {(out / 'site' / 'index.html').as_uri()}")
    if interrupted:
        way = "the same command without --fresh" if fresh else "the same command"
        click.echo(f"Interrupted; {way} goes on from here.")
    elif ended_by is not None:
        raise ended_by  # told in a line, after what is complete was published
    return code


def _summary(results, published, images, code):
    runs = []
    for spec, result in results.items():
        row = {
            "model": spec.task.experiment.name,
            "seed": spec.task.seed,
            "status": result.status,
            "message": result.message,
        }
        if result.run is not None:
            row["key"] = result.run.record["key"]
            row["test_accuracy"] = result.run.record["test"]["accuracy"]
            row["record"] = f"site/runs/{result.run.name}/{result.run.key16}.json"
        runs.append(row)
    notebooks = {
        done.page.name: {
            "status": done.status,
            "headline": done.headline,
            "message": done.message,
            "seconds": round(done.seconds, 1),
            "parameters": done.page.parameters,
        }
        for done in published
    }
    return {
        "exit_code": code,
        "dataset": {"name": images.name, "fingerprint": images.fingerprint},
        "runs": runs,
        "notebooks": notebooks,
    }


def _final_table(results, published, started):
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("notebook", "status", "seconds", "headline")
    for done in published:
        colour = "green" if done.status in ("published", "reused") else "red"
        table.add_row(
            done.page.name, f"[{colour}]{done.status}", f"{done.seconds:.1f}",
            escape(done.headline or done.message),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status] = counts.get(result.status, 0) + 1
        if result.status == "failed":
            click.secho(f"{result.spec.title}: {result.message}", fg="red")
    text = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    total = time.perf_counter() - started
    click.echo(f"Runs: {text or 'none'}. {total:.0f} s.")


def main():
    """Run the command; a user's mistake is one line and exit code 2."""
    try:
        code = command.main(standalone_mode=False)
    except click.ClickException as error:
        click.secho(f"run_all.py: {error.format_message()} (see --help)", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except (ValueError, OSError) as error:
        if type(error).__module__.partition(".")[0] != "mnistlab":
            raise
        click.secho(f"run_all.py: {error}", err=True)
        code = 2 if isinstance(error, ValueError) else 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the exit code is decided
    sys.exit(code)


if __name__ == "__main__":
    main()
