"""What is kept out of logs, and what is not."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import warnings

import pytest

from paddock.cli import log_noise

SAID = [
    ("alembic.runtime.plugins", logging.INFO, "setup plugin alembic.autogenerate.schemas"),
    ("alembic.runtime.migration", logging.INFO, "Will assume non-transactional DDL."),
    (
        "torchao",
        logging.WARNING,
        "Failed to load /lib/torchao/_C_cutlass_90a.abi3.so: Could not load this library: /lib/x.so",
    ),
    (
        "torchao.kernel.intmm",
        logging.WARNING,
        "Warning: Detected no triton, on systems without Triton certain kernels …",
    ),
    (
        "torch.utils._pytree",
        logging.WARNING,
        "<enum 'KernelPreference'> is an Enum subclass and is now natively supported by torch.compile as an opaque …",
    ),
]


@pytest.mark.parametrize(("logger", "level", "message"), SAID)
def test_noise_is_left_out_and_nothing_else(
    caplog: pytest.LogCaptureFixture, logger: str, level: int, message: str
) -> None:
    log_noise.leave_out()
    caplog.set_level(logging.INFO)
    log = logging.getLogger(logger)
    log.log(level, message)
    log.log(level, "Something else.")
    log.error("%s", message)
    logging.getLogger(f"{logger}.other").log(level, message)
    assert [record.getMessage() for record in caplog.records] == ["Something else.", message, message]


def test_every_logger_is_tried() -> None:
    assert {logger for logger, _, _ in SAID} == set(log_noise.NOISE)


def test_one_warning_is_left_out() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_noise.leave_out()
        warnings.warn(
            "`is_gradient_checkpointing` is deprecated and will be removed in v6.", FutureWarning, stacklevel=1
        )
        with pytest.raises(FutureWarning, match="another"):
            warnings.warn("`another` is deprecated.", FutureWarning, stacklevel=1)


def test_the_libraries_still_say_it_in_these_words() -> None:
    """With the filters it is not said at their import, and a bar is no longer drawn."""
    script = (
        "from paddock.cli import log_noise; log_noise.leave_out(); import logging; logging.basicConfig(level='INFO');"
        "import torchao.quantization, transformers; print(transformers.utils.logging.is_progress_bar_enabled())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout == "False\n"
    assert re.findall("Failed to load|no triton|Enum subclass", done.stderr) == []
