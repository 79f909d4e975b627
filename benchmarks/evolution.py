"""The tiling of one template found by TVM MetaSchedule's evolutionary search beside that by trying all.

    python -m benchmarks.evolution [--widths 8] [--trials 8]        # needs the extra bench, for xgboost

What is searched are decisions, the blocks and pixels of a template's tile, sampled in a schedule of a program that does
nothing; a builder of ours makes the kernel that they name, a runner of ours times it as qtune does. TVM's strategy
mutates decisions, and its model of gradient-boosted trees learns from times and our estimates which are worth a trial.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms

from benchmarks.costs import SHAPES, signed, unsigned
from benchmarks.tuning import TARGET, tasks
from qcompiler import targets
from qcompiler.errors import QCompilerError
from qcompiler.targets.choose import choices
from qcompiler.targets.measured import family_and_tile
from qcompiler.tuning.builder import Builder
from qcompiler.tuning.here import Here
from qcompiler.tuning.search import FINAL_ROUNDS, FIRST_ROUNDS, Candidate
from qcompiler.tuning.session import here_variant
from qcompiler.tuning.task import Task
from qcompiler.tuning.trial import Timed

# what MetaSchedule's own mutator changes
_DECIDED = "meta_schedule.unroll_explicit"
_TILING = re.compile(r"_p(\d+)b(\d+)s(\d+)([a-z])$")


# a block for each decision
_NOTHING = """
@I.ir_module(s_tir=True)
class Nothing:
    @T.prim_func(s_tir=True)
    def main(a: T.Buffer((1,), "float32"), b: T.Buffer((1,), "float32")):
        for i in range(1):
            with T.sblock("blocks"):
                vi = T.axis.spatial(1, i)
                a[vi] = T.float32(0)
        for i in range(1):
            with T.sblock("pixels"):
                vi = T.axis.spatial(1, i)
                b[vi] = T.float32(0)
"""


class Template:
    """The kernels of the family that has most of them, by the blocks and pixels of their tiles."""

    def __init__(self, task: Task) -> None:
        families: dict[str, dict[tuple[int, int], Candidate]] = defaultdict(dict)
        for each in choices(task.variant, task.problem):
            found = _TILING.search(each.kernel.name)
            if found is not None:
                family, _ = family_and_tile(each.kernel.name)
                families[family][int(found[2]), int(found[1])] = Candidate(task, each.kernel, each.nanoseconds)
        self.family, self.kernels = max(families.items(), key=lambda item: len(item[1]), default=("", {}))
        by_blocks: dict[int, list[Candidate]] = defaultdict(list)
        for blocks, pixels in sorted(self.kernels):
            by_blocks[blocks].append(self.kernels[blocks, pixels])
        self._by_blocks = list(by_blocks.values())

    def space(self, schedule: Any) -> None:
        """Sample blocks, and pixels; where there are fewer pixels than elsewhere they are counted round."""
        for name, count in (("blocks", len(self._by_blocks)), ("pixels", max(map(len, self._by_blocks)))):
            decided = schedule.sample_categorical(list(range(count)), [1.0 / count] * count)
            schedule.annotate(schedule.get_sblock(name), _DECIDED, decided)

    def named(self, module: Any) -> Candidate:
        """The kernel that decisions name."""
        schedule = tvm.s_tir.Schedule(module)
        blocks, pixels = (
            int(schedule.get(schedule.get_sblock(name)).annotations[_DECIDED]) for name in ("blocks", "pixels")
        )
        return self._by_blocks[blocks][pixels % len(self._by_blocks[blocks])]


class Trials:
    """Times kernels once each."""

    def __init__(self, builder: Builder, place: Here) -> None:
        self._builder, self._place = builder, place
        self.times: dict[Candidate, float] = {}

    def seconds(self, candidate: Candidate) -> float:
        """Of a run; raises QCompilerError where the kernel cannot be made."""
        if candidate not in self.times:
            (timed,) = self._place.run(self._builder.trial([candidate], FIRST_ROUNDS))
            if not isinstance(timed, Timed):
                raise QCompilerError(timed.reason)
            self.times[candidate] = timed.nanoseconds
        return self.times[candidate] * 1e-9


def evolved(template: Template, trials: Trials, count: int) -> None:
    """Let MetaSchedule choose so many kernels to try."""
    asked: list[Candidate] = []

    @derived_object
    class Named(ms.builder.PyBuilder):
        def build(self, build_inputs: Sequence[Any]) -> list[Any]:
            results = []
            for each in build_inputs:
                asked.append(template.named(each.mod))
                results.append(ms.builder.BuilderResult(str(len(asked) - 1), None))
            return results

    @derived_object
    class Future(ms.runner.PyRunnerFuture):
        def __init__(self, seconds: float) -> None:
            self._seconds = seconds

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return ms.runner.RunnerResult([self._seconds], None)

    @derived_object
    class Timing(ms.runner.PyRunner):
        def run(self, runner_inputs: Sequence[Any]) -> list[Any]:
            return [Future(trials.seconds(asked[int(each.artifact_path)])) for each in runner_inputs]

    @derived_object
    class Known(ms.feature_extractor.PyFeatureExtractor):
        def extract_from(self, context: Any, candidates: Sequence[Any]) -> list[Any]:
            return [tvm.runtime.tensor(_features(template, each.sch.mod)) for each in candidates]

    context = ms.TuneContext(
        tvm.script.from_source(_NOTHING, {"I": tvm.script.ir, "T": tvm.script.tirx}),
        target=tvm.target.Target({"kind": "llvm"}),
        space_generator=ms.space_generator.ScheduleFn(
            template.space, sch_rules=[], postprocs=[], mutator_probs={ms.mutator.MutateUnroll(): 1.0}
        ),
        search_strategy=ms.search_strategy.EvolutionarySearch(population_size=64, init_min_unmeasured=8),
        num_threads=1,
        rand_state=1,
    )
    ms.tune.tune_tasks(
        tasks=[context], task_weights=[1.0], work_dir=tempfile.gettempdir(), max_trials_global=count,
        num_trials_per_iter=8, builder=Named(), runner=Timing(), database="memory",
        cost_model=ms.cost_model.XGBModel(extractor=Known(), num_warmup_samples=8, num_tuning_cores=1),
        measure_callbacks=[ms.measure_callback.UpdateCostModel(), ms.measure_callback.AddToDatabase()],
    )  # fmt: skip


def _features(template: Template, module: Any) -> np.ndarray:
    """The sizes in the kernel's name, its walk, and what is expected of it: float32 [1, 5]."""
    candidate = template.named(module)
    found = _TILING.search(candidate.kernel.name)
    assert found is not None
    *sizes, walk = found.groups()
    return np.array([[*map(float, sizes), walk == "c", np.log(candidate.expected)]], np.float32)


def main() -> int:
    """Search in both ways, and time both best beside each other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evolution", description=__doc__.partition("\n")[0])
    parser.add_argument("--widths", type=int, default=8, metavar="BITS", help="of weights and activations")
    parser.add_argument("--trials", type=int, default=8, metavar="N", help="kernels that the evolution tries at most")
    options = parser.parse_args()
    if importlib.util.find_spec("xgboost") is None:
        parser.error("TVM's cost model needs xgboost: pip install -e '.[bench]'")
    variant = here_variant(targets.get(TARGET).variants(()))
    widths = signed(options.widths), unsigned(options.widths)
    template = Template(max(tasks(variant, SHAPES[1], widths), key=lambda each: len(Template(each).kernels)))
    place = Here()
    try:
        with Builder() as builder:
            found = {}
            for name in ("evolution", "enumeration"):
                trials, started, used = Trials(builder, place), time.perf_counter(), time.process_time()
                if name == "evolution":
                    evolved(template, trials, options.trials)
                else:
                    for candidate in template.kernels.values():
                        trials.seconds(candidate)
                found[name] = min(trials.times, key=lambda each: trials.times[each])
                taken = f"{time.perf_counter() - started:.0f} s, {time.process_time() - used:.0f} s of this process"
                print(f"{name}: {len(trials.times)} kernels of {len(template.kernels)} of {template.family}, {taken}")
            timed = place.run(builder.trial(list(found.values()), FINAL_ROUNDS))
    finally:
        place.close()
    for (name, candidate), outcome in zip(found.items(), timed, strict=True):
        assert isinstance(outcome, Timed)
        print(f"{name}: {candidate.kernel.name} takes {outcome.nanoseconds:.0f} ns ± {100 * outcome.noise:.0f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
