"""Inputs of the verbs, and what they make of them when nobody disturbs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from verbs import VERBS, content, run, write_inputs

from geosynth.checkpoint import GeneratorModel


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, tiny_model: GeneratorModel) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"), tiny_model.path)


@pytest.fixture(scope="session")
def unbroken(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What a verb makes that nobody disturbs; `tests` ask for it by the verb's name."""
    made: dict[str, dict[str, Any]] = {}

    def of(name: str) -> dict[str, Any]:
        if name not in made:
            folder = tmp_path_factory.mktemp("unbroken")
            ended = run(VERBS[name].arguments(inputs), folder)
            assert ended.code == 0, ended
            made[name] = content(folder)
        return made[name]

    return of
