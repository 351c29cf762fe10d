"""Files of weights, PyTorch's own and safetensors: tensors are read, all else is refused without being run."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from geosynth.errors import CheckpointError
from geosynth.models.state import read_state


def test_a_state_dict_comes_back(tmp_path):
    state = {"a.weight": torch.rand(2, 3), "a.count": torch.tensor(4)}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)  # what the reference's users have
    save_file(state, tmp_path / "new.safetensors")
    for name in ("new.pth", "old.pth", "new.safetensors"):
        found = read_state(tmp_path / name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


class Evil:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (self.trace, "w")


@pytest.mark.parametrize("wrap", [True, False], ids=["torch", "pickle"])
def test_code_is_refused_and_not_run(tmp_path, wrap):
    path, trace = tmp_path / "evil.pth", tmp_path / "was_here"
    value = {"weight": torch.zeros(2), "payload": Evil(str(trace))}
    if wrap:
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(Evil(str(trace))))
    with pytest.raises(CheckpointError, match=r"evil.pth: not") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04" + b"\x00" * 40, b"II*\x00" + b"\x01" * 99, b"hello"], ids=range(5)
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_other_files_are_refused_in_one_line(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: not") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, torch.zeros(2), {"model": {"weight": torch.zeros(2)}}])
def test_what_is_no_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="not a state dict"):
        read_state(tmp_path / "other.pth")


@pytest.mark.parametrize(("name", "save"), [("half.pth", torch.save), ("half.safetensors", save_file)])
def test_a_truncated_file_is_refused(tmp_path, name, save):
    path = tmp_path / name
    save({"a": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(CheckpointError, match=f"{name}: not"):
        read_state(path)
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_state(tmp_path)
