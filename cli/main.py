"""The `bacmac` command: find the subcommand, and turn errors into exit codes in one place."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from importlib import metadata

# The engine's matrix products are small: a second BLAS thread only makes the first one wait.
# It must be said before NumPy is imported; a user's own setting is kept.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import click

from bacmac.cli.lazy_group import LazyGroup
from bacmac.host.errors import BacmacError, DeviceError

COMMANDS = {
    "pack": "Quantize, prune and pack a float model.",
    "sweep": "Compress a model in many ways; accuracy against bits and products.",
    "recover": "Compress a float model, train it to make good the loss, and pack it.",
    "export": "Write a packed model's weights in another project's layout, or read them back.",
    "inspect": "Show what a packed model holds, layer by layer.",
    "check": "Run a model file on test vectors, by its own definition and the accelerator's.",
    "run": "Stream images through a device: accuracy, cycles, counters.",
    "verify": "Run images on two devices and find the first difference.",
    "compare": "Measure or estimate E_MAC / E_BAC with an interval.",
    "campaign": "Plan, run and report an unattended energy campaign.",
    "overlay": "List, show and check accelerator overlays.",
    "power": "List power rails and record them.",
    "remote": "List and fetch what --device ssh://... started on a board.",
    "doctor": "Say what is installed, what can be opened, and what to do next.",
    "demo": "The main job on the shipped example, on the emulated board.",
}
INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended: 128 + SIGINT, as shells count."""


@click.group(
    cls=LazyGroup,
    commands_in={name: (name, text) for name, text in COMMANDS.items()},
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(metadata.version("bacmac"), prog_name="bacmac")
def bacmac() -> None:
    """Put a quantized, pruned CNN on an SoC FPGA and find out what bitshifts save.

    Results go to standard output (--json for machines); progress and warnings to standard error.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit status: 0 done; 1 a check found something, or the reader of the output left; 2 bad input;
    130 Ctrl-C. A `BacmacError` and a wrong option are one line on standard error; with --json the
    error, and the state of a device that failed, go to standard output too. Anything else that
    escapes is a bug and keeps its traceback.
    """
    try:
        # A job on a board is started with SIGINT held back until it can be answered in order.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        status = bacmac.main(arguments, prog_name="bacmac", standalone_mode=False)
        # Results still in the buffer can meet a closed pipe: let that happen inside this block.
        sys.stdout.flush()
    except BacmacError as error:
        click.echo(f"Error: {error}", err=True)
        words = sys.argv[1:] if arguments is None else arguments
        if "--json" in words:
            state = error.state if isinstance(error, DeviceError) else None
            click.echo(json.dumps({"error": str(error), "state": state}, indent=2))
        status = error.exit_code
    except click.UsageError as error:
        where = f"{error.ctx.command_path} --help" if error.ctx else "bacmac --help"
        click.echo(f"Error: {' '.join(error.format_message().split())} (see {where})", err=True)
        status = 2
    except click.ClickException as error:
        click.echo(f"Error: {' '.join(error.format_message().split())}", err=True)
        status = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted: nothing was left half written.", err=True)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): point stdout at nothing so that exit stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status if isinstance(status, int) else 0)
