"""Real Ray processes are killed: nothing is lost, nothing is there twice, and no byte differs.

A worker and the driver are killed once. ``NEUROINSPECT_RAY=1`` adds minutes of further faults, and
``NEUROINSPECT_KILLS=20`` kills so many workers.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ray_processes import Driver, listened_addresses, wait_for
from scale_examples import CLASSES, bytes_of, write_net, write_shards

pytest.importorskip("ray.data")
pytest.importorskip("pyarrow")

from captum_neuroinspect.models import load_model
from captum_neuroinspect.scale import (
    AtlasSettings,
    FeatureParts,
    ScaleOptions,
    collect_features_at_scale,
    rank_at_scale,
    render_atlas,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes through /proc"),
]

N_KILLS = int(os.environ.get("NEUROINSPECT_KILLS", 1))
N = 64 + 8 * N_KILLS  # photos: a part of eight more for each kill
further = pytest.mark.skipif(
    not os.environ.get("NEUROINSPECT_RAY"), reason="NEUROINSPECT_RAY=1 runs further faults"
)
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def _code(spec: str, source: Path, out: Path) -> str:
    return f"""
from captum_neuroinspect.scale import ScaleOptions, collect_features_at_scale
collect_features_at_scale(
    {spec!r}, {str(source)!r}, {str(out)!r}, class_names={CLASSES!r},
    options=ScaleOptions(n_workers=2, part_size=8, batch_size=4, progress=False),
)
"""


def _wait_for_a_worker(driver: Driver, n_done: Callable[[], int], before: int) -> None:
    """Until a further part is there and a worker lives, or all is done."""
    wait_for(lambda: n_done() > before or not driver.is_running())
    wait_for(lambda: bool(driver.workers()) or not driver.is_running())


def _run_with_kills(code: str, log: Path, parts: Path, n_all: int) -> None:
    """Kill workers, each time after a further part, and half way the driver, which starts again."""

    def n_done() -> int:
        return len(list(parts.glob("*.json")))

    draw, addresses = random.Random(0), set()

    def kill_workers(driver: Driver, n: int) -> None:
        for _ in range(n):
            _wait_for_a_worker(driver, n_done, n_done())
            assert driver.is_running(), log.read_text()[-3000:]
            addresses.update(listened_addresses(list(driver.descendants())))
            os.kill(draw.choice(driver.workers()), signal.SIGKILL)

    first = N_KILLS // 2 + 1
    with Driver(code, log, SLOW="0.2") as driver:
        kill_workers(driver, first)
        driver.kill()
    assert n_done() < n_all
    with Driver(code, log, SLOW="0.2") as driver:
        kill_workers(driver, N_KILLS - first)
        driver.finished()
    assert addresses
    assert addresses <= LOOPBACK


def test_kills_change_no_byte(tmp_path: Path) -> None:
    spec, source = write_net(tmp_path), write_shards(tmp_path / "shards", N, 50)
    here = ScaleOptions(n_workers=0, part_size=8, batch_size=4, progress=False)
    undisturbed = tmp_path / "undisturbed"
    collect_features_at_scale(spec, source, undisturbed, class_names=CLASSES, options=here)

    out = tmp_path / "out"
    _run_with_kills(_code(spec, source, out), tmp_path / "log", out / "parts", -(-N // 8))
    assert bytes_of(out) == bytes_of(undisturbed)
    found = FeatureParts.open(out)
    names = [name for part in found for name in part.photos]
    names += [one.identity for one in found.skipped]
    assert len(names) == len(set(names)) == N


@further
def test_a_full_disk_is_said_and_the_next_call_goes_on(tmp_path: Path) -> None:
    spec, source = write_net(tmp_path), write_shards(tmp_path / "shards", 24)
    full = """
import captum_neuroinspect.scale.committed as committed
write = committed.write_atomically
def fill(path, content):
    if "part-000001" in str(path):
        raise OSError(28, "No space left on device", str(path))
    return write(path, content)
if "FULL" in os.environ:
    committed.write_atomically = fill
"""
    module = tmp_path / "net.py"
    module.write_text(module.read_text() + full)
    here = ScaleOptions(n_workers=0, part_size=8, batch_size=4, progress=False)
    undisturbed = tmp_path / "undisturbed"
    collect_features_at_scale(spec, source, undisturbed, class_names=CLASSES, options=here)

    out = tmp_path / "out"
    with Driver(_code(spec, source, out), tmp_path / "log", FULL="1") as driver:
        assert driver.process.wait(600) == 1
    assert "No space left on device" in (tmp_path / "log").read_text().splitlines()[-1]
    assert not (out / "index.json").exists()
    collect_features_at_scale(spec, source, out, class_names=CLASSES, options=here)
    assert bytes_of(out) == bytes_of(undisturbed)


NODES = """
import os, threading, time
from pathlib import Path
from ray.cluster_utils import Cluster

one = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
cluster = Cluster(initialize_head=True, head_node_args=one)
node = cluster.add_node(**one)

def is_child(path):
    try:
        parent = path.read_text().rpartition(")")[2].split()[1]
        line = path.with_name("cmdline").read_bytes()
    except OSError:
        return False
    return int(parent) == raylet and line.startswith(b"ray::MapWorker")

def work():
    address = cluster.address
    CALL

thread = threading.Thread(target=work)
thread.start()
parts = Path(OUT) / "parts"
raylet = node.all_processes["raylet"][0].process.pid

def is_at_work():
    n = len(list(parts.glob("*.json")))
    return n > 2 and any(map(is_child, Path("/proc").glob("[0-9]*/stat")))

while not is_at_work():
    assert thread.is_alive()
    time.sleep(0.05)
cluster.add_node(**one)  # where the lost worker may start again
assert not (Path(OUT) / "index.json").exists()
cluster.remove_node(node, allow_graceful=False)
thread.join()
cluster.shutdown()
"""


@further
def test_a_removed_node_changes_no_byte(tmp_path: Path) -> None:
    """Two nodes on the loopback interface with a worker each; one is killed with its worker."""
    spec, source = write_net(tmp_path), write_shards(tmp_path / "shards", 160, 50)
    here = ScaleOptions(n_workers=0, part_size=8, batch_size=4, progress=False)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    collect_features_at_scale(spec, source, undisturbed, class_names=CLASSES, options=here)
    call = _code(spec, source, out).replace("n_workers=2,", "n_workers=2, address=address,")
    call = call.strip().replace("\n", "\n    ")
    code = NODES.replace("CALL", call).replace("OUT", repr(str(out)))
    local = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with Driver(code, tmp_path / "log", SLOW="1", **local) as driver:
        driver.finished()
    assert "marked dead" in (tmp_path / "log").read_text()
    assert bytes_of(out) == bytes_of(undisturbed)


@further
def test_workers_rank_to_the_bytes_of_one_process(tmp_path: Path) -> None:
    spec, source = write_net(tmp_path), write_shards(tmp_path / "shards", 47)
    here = ScaleOptions(n_workers=0, part_size=8, batch_size=4, progress=False)
    features = collect_features_at_scale(
        spec, source, tmp_path / "features", class_names=CLASSES, options=here
    )
    head = load_model(spec).model.head
    one = rank_at_scale(features, head, tmp_path / "one", reference=features, options=here)
    code = f"""
from captum_neuroinspect.models import load_model
from captum_neuroinspect.scale import FeatureParts, ScaleOptions, rank_at_scale
features = FeatureParts.open({str(features.folder)!r})
options = ScaleOptions(n_workers=2, progress=False)
head, out = load_model({spec!r}).model.head, {str(tmp_path / "two")!r}
print(rank_at_scale(features, head, out, reference=features, options=options))
"""
    with Driver(code, tmp_path / "log") as driver:
        driver.finished()
    assert str(one) in (tmp_path / "log").read_text()
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


@further
def test_kills_change_no_byte_of_an_atlas(tmp_path: Path) -> None:
    spec = write_net(tmp_path)
    settings = AtlasSettings(classes_per_neuron=2, n_steps=3, size=16, pairs_per_batch=2)
    here = ScaleOptions(n_workers=0, progress=False)
    render_atlas(spec, tmp_path / "undisturbed", settings=settings, options=here)
    out = tmp_path / "out"
    code = f"""
from captum_neuroinspect.scale import AtlasSettings, ScaleOptions, render_atlas
options = ScaleOptions(n_workers=2, progress=False)
render_atlas({spec!r}, {str(out)!r}, settings={settings!r}, options=options)
"""
    _run_with_kills(code, tmp_path / "log", out / "pairs", 64)
    assert bytes_of(out) == bytes_of(tmp_path / "undisturbed")
