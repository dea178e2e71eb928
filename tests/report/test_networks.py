"""What the report shows of trained networks, against the checkpoints and the stacks that they come from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from support import blobs, run, small_study
from support.page import gathered, page_of

from searchlib import Examples, Study
from searchlib.data.datasets import load_train
from searchlib.data.splits import Split, split
from searchlib.report.networks import Networks, decisions
from searchlib.results.champion import predict as champion
from searchlib.results.prediction import SHADES, predict
from searchlib.stores.stores import Stores
from searchlib.stores.tracking import Tracker
from searchlib.training.loop import prepare as tensors
from searchlib.training.stack import Member, Stack


def test_initial_weights_are_those_the_stack_drew(study: Study) -> None:
    """The 'before' of the histogram against a stack of the same member, and the 'after' against the checkpoint."""
    examples = split(load_train(study.dataset, Path("data")), seed=study.split_seed, fraction=study.validation_fraction)
    with Tracker(study, Stores(data_root=Path("data"))) as tracker:
        networks = Networks(study, tracker)
    for initializer in ("xavier_normal", "lsuv"):
        config = study.config(
            {"initializer": "normal", "activation": "tanh", "learning_rate": 0.1, "batch_size": 16}
        ).__class__(initializer=initializer, activation="tanh", hidden=(8,))
        probe = tensors(examples, study.dataset, config.input_scaling).probe
        stack = Stack([Member(0, config, 77)], outputs=study.dataset.outputs, probe=probe)
        drawn = networks.initial_weights(config, 77, None)
        for name in ("linear0.weight", "linear1.weight"):
            assert torch.equal(drawn[name], stack.state(0)[name])
    material = gathered(study)
    with Tracker(study, Stores()) as tracker:
        weights = load(tracker.checkpoint(material.champion.run_id))["linear0.weight"]
    first = material.weights[0]
    assert "linear0" in first.name
    assert first.edges[0] <= float(weights.min()) <= float(weights.max()) <= first.edges[-1]
    width = first.edges[1] - first.edges[0]
    for densities in (first.before, first.after):
        assert sum(densities) * width == pytest.approx(1.0)


def test_single_decisions_are_the_champions(study: Study) -> None:
    """Against the registered model's soft decisions for the whole validation split."""
    examples = split(load_train(study.dataset, Path("data")), seed=study.split_seed).validation
    with Tracker(study, Stores()) as tracker:
        soft = torch.from_numpy(champion(tracker, examples.inputs.numpy()))
    sure = soft.amax(dim=1)
    found = {one.what.split(",")[0].split()[0]: one for one in gathered(study).decisions}
    for one in found.values():
        index = one.index
        assert one.soft == pytest.approx(soft[index].tolist(), abs=1e-5)
        assert one.truth == int(examples.targets[index])
        assert torch.tensor(one.image) * 255 == pytest.approx(examples.inputs[index].double(), abs=1e-3)
    assert sure[found["least"].index] == min(
        value for index, value in enumerate(sure) if index not in {found[k].index for k in found if k != "least"}
    )
    decision = predict(study, Stores(data_root=Path("data")), found["right"].index)
    first, *lines = decision.lines()
    assert first.startswith(f"validation image {found['right'].index}: {decision.truth} (right)")
    brightest = max(value for row in found["right"].image for value in row)
    assert any(2 * SHADES[int(brightest * len(SHADES))] in line for line in lines[:6])
    assert max(map(len, lines)) < 80


def test_which_decisions_are_shown() -> None:
    class Networks:
        dataset = blobs()

        def __init__(self, soft, targets) -> None:
            self.soft, part = torch.tensor(soft), Examples(inputs=torch.zeros(len(soft), 6, 6), targets=targets)
            self.split = Split(train=part, validation=part, seed=0, fraction=0.5)

        def examples(self, trial) -> Split:
            return self.split

        def outputs(self, trial, inputs, *, classify: bool) -> torch.Tensor:
            assert classify
            return self.soft

    soft = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.0, 0.6, 0.4], [0.5, 0.2, 0.3]]

    def chosen(*targets: int) -> dict[str, int]:
        return {one.what: one.index for one in decisions(Networks(soft, torch.tensor(targets)), None)}

    assert chosen(0, 0, 0, 1, 1, 0) == {"right, of middling certainty": 4, "most confidently wrong": 2, "least sure": 3}
    assert chosen(0, 1, 2, 1, 1, 0) == {"right, of middling certainty": 1, "least sure": 3}, "none is wrong"
    assert chosen(1, 2, 1, 2, 0, 2) == {"most confidently wrong": 0, "least sure": 3}, "none is right"


def test_cells_show_their_weights_and_missing_data_leave_a_gap(copied: Study) -> None:
    shutil.rmtree("data")
    material = gathered(copied)
    assert list(material.cell_weights) == [0, 1, 2, 3]
    assert material.cell_weights[0] == material.weights, "the winner's is the champion"
    normal = next(i for i, cell in enumerate(material.findings.cells) if cell.scientific["initializer"] == "normal")
    widths = {index: layers[0].edges[-1] for index, layers in material.cell_weights.items()}
    assert widths[normal] > 2.0, "of deviation 1"
    assert material.decisions == ()
    page = page_of(copied, material)
    assert "cell-weights" in page.figures
    assert "The training data, of which the validation split is a part, can't be read" in page.text
    assert "searchlib data fetch" in page.text or "put it there" in page.text
    spec = json.loads(page.scripts["spec-cell-weights"])
    assert len(spec["data"]) == 4 * 2 * 2, "cells, layers, before and after"


def small_net(config, dataset):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(dataset.inputs, dataset.outputs))


def broken(config, dataset):
    raise ValueError("not today")


def test_a_module_of_the_studys_own_has_decisions_too() -> None:
    study = small_study(model=small_net, scientific={}, fixed={"epochs": 1}, trials=2)
    run(study)
    material = gathered(study)
    assert [one.soft for one in material.decisions]
    assert "of a module of the study's own aren't stored" in page_of(study, material).text
    for factory in (broken, lambda config, dataset: torch.nn.Linear(1, 1)):
        page = page_of(dataclasses.replace(study, model=factory))
        assert "The champion can't be run again: model: the checkpoint can't be loaded into it" in page.text
