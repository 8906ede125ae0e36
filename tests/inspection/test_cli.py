import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from captum_neuroinspect import __version__
from captum_neuroinspect.inspection.cli import app

runner = CliRunner()


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout.strip().endswith(__version__)


def test_help_names_every_option_and_does_not_load_torch() -> None:
    code = (
        "import sys; sys.argv = ['neuroinspect', 'demo', '--help']\n"
        "from captum_neuroinspect.inspection.cli import app\n"
        "try: app()\n"
        "except SystemExit: assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for option in ("--data", "--out", "--seed", "--quiet", "--debug"):
        assert option in done.stdout


@pytest.mark.parametrize("option", [[], ["--debug"]])
def test_a_bad_folder_is_one_sentence_and_a_traceback_only_with_debug(
    tmp_path: Path, option: list[str]
) -> None:
    result = runner.invoke(app, ["demo", "--data", str(tmp_path), *option])

    assert result.exit_code == 1
    if option:
        assert isinstance(result.exception, ValueError)
    else:
        assert result.stderr.startswith("Error: data=")
        assert "expected a folder with train/, validation/ and test/" in result.stderr
        assert "Traceback" not in result.stderr
