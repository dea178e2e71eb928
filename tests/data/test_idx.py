"""IDX files: they are checked before use, and the test part stays shut."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil

import pytest
import torch
from support.idx import CONTENT, MD5, NAMES, SHAPE, TEST, TRAIN, Refusing, arrays, tiny, write

from searchlib import data
from searchlib.data import sources
from searchlib.data.idx_files import IdxFile
from searchlib.errors import DataError, IntegrityError


def test_idx_round_trip(tmp_path, raw):
    train, test = data.load_train(tiny(), tmp_path), data.load_test(tiny(), tmp_path)
    for examples, prefix in ((train, "train"), (test, "t10k")):
        assert (examples.inputs.numpy() == arrays()[f"{prefix}-images-idx3-ubyte"]).all()
        assert (examples.targets.numpy() == arrays()[f"{prefix}-labels-idx1-ubyte"]).all()
        assert (examples.inputs.dtype, examples.targets.dtype) == (torch.uint8, torch.int64)
    assert sorted(path.name for path in raw.iterdir()) == sorted(NAMES), "reading good files writes nothing"


def test_small_idx_equals_torchvisions_reader(raw, torchvision_datasets):
    file = IdxFile(name=NAMES[0], shape=(TRAIN, *SHAPE))
    read_image_file = torchvision_datasets.mnist.read_image_file
    assert (read_image_file(str(raw / NAMES[0])).numpy() == file.array(file.read(raw / NAMES[0]))).all()


@pytest.mark.parametrize("make", ["missing", "folders", "garbage"])
def test_training_data_needs_no_test_files(tmp_path, raw, make):
    for name in NAMES[2:]:
        (raw / name).unlink()
        if make == "folders":  # nothing can be read from these, whoever asks
            (raw / name).mkdir()
        elif make == "garbage":
            (raw / name).write_bytes(b"garbage")
    assert len(data.load_train(tiny(), tmp_path)) == TRAIN
    with pytest.raises(DataError, match=NAMES[2]):
        data.load_test(tiny(), tmp_path)


GOOD = CONTENT[NAMES[0]]
DAMAGES = {  # the damaged images, and what is said of them
    "truncated": (GOOD[:-1], "size in bytes is 735, expected 736"),
    "empty": (b"", "size in bytes is 0, expected 736"),
    "longer": (GOOD + b"\0", "size in bytes is more than 736, expected 736"),
    "altered": (GOOD[:-1] + bytes([GOOD[-1] ^ 1]), f"content's MD5 is .*, expected {MD5[NAMES[0]]}"),
    "type": (GOOD[:2] + b"\x0d" + GOOD[3:], "IDX header is 00000d03 .*, expected 00000803"),
    "sizes": (
        GOOD[:4] + (TRAIN - 1).to_bytes(4, "big") + GOOD[8:],
        "IDX header is 00000803 0000003b .*, expected 00000803 0000003c 00000004 00000003",
    ),
}


@pytest.mark.parametrize(("bad", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_and_never_used_but_fetched_again(tmp_path, raw, bad, said, caplog):
    (raw / NAMES[0]).write_bytes(bad)
    with pytest.raises(IntegrityError, match=said) as caught:
        data.load_train(tiny(), tmp_path)
    message = str(caught.value)
    assert str(raw / NAMES[0]) in message
    assert "--data-root" in message
    assert "\n" not in message
    assert (raw / NAMES[0]).read_bytes() == bad, "it stays until a good one replaces it"
    caplog.clear()
    with caplog.at_level(logging.WARNING, "searchlib.sources"):
        assert len(data.load_train(tiny(sources.Folder(write(tmp_path / "elsewhere"))), tmp_path)) == TRAIN
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(raw / NAMES[0]) in caplog.text
    assert (raw / NAMES[0]).read_bytes() == CONTENT[NAMES[0]]


def test_without_a_checksum_size_and_header_are_checked(tmp_path, raw):
    (raw / NAMES[0]).write_bytes(DAMAGES["altered"][0])
    assert len(data.load_train(tiny(md5=None), tmp_path)) == TRAIN
    (raw / NAMES[0]).write_bytes(DAMAGES["truncated"][0])
    with pytest.raises(IntegrityError, match="735"):
        data.load_train(tiny(md5=None), tmp_path)


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_the_test_part_is_fetched_only_on_demand(tmp_path, raw, kind):
    path = raw / NAMES[3]
    path.unlink()
    if kind != "missing":
        path.write_bytes(CONTENT[NAMES[3]][:-1])
    refusing, elsewhere = Refusing("refusing"), sources.Folder(write(tmp_path / "elsewhere"))
    dataset = tiny(refusing, elsewhere)
    with pytest.raises(DataError) as caught:
        data.load_test(dataset, tmp_path)
    message = str(caught.value)
    assert isinstance(caught.value, IntegrityError) == (kind != "missing")
    assert message.startswith("tiny: ")
    for part in (str(path), "`searchlib data fetch tiny`", "--data-root", "SEARCHLIB_DATA"):
        assert part in message
    assert "\n" not in message
    assert refusing.asked == 0
    assert not (raw / ".lock").exists(), "nothing was written"
    assert len(data.load_test(dataset, tmp_path, fetch=True)) == TEST
    assert refusing.asked == 1
    assert len(data.load_test(dataset, tmp_path)) == TEST


def test_labels_beyond_the_classes(tmp_path, raw):
    with pytest.raises(DataError, match="tiny: class indices run from 0 to 4, of 3 classes"):
        data.load_train(tiny(classes="abc"), tmp_path)


def test_a_gz_beside_is_read_for_the_test_part_and_unpacked_for_training(tmp_path):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    assert len(data.load_test(tiny(), tmp_path)) == TEST
    assert sorted(os.listdir(raw)) == sorted(f"{name}.gz" for name in NAMES), "nothing was written"
    refusing = Refusing("never asked")
    assert len(data.load_train(tiny(refusing), tmp_path)) == TRAIN
    assert refusing.asked == 0
    assert (raw / NAMES[0]).read_bytes() == CONTENT[NAMES[0]]
    assert not (raw / NAMES[2]).exists()


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(CONTENT[NAMES[0]])[:-9], b"no gzip", gzip.compress(b"other")],
    ids=["cut short", "no gzip", "another content"],
)
def test_a_damaged_gz_is_not_used(tmp_path, packed):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    (raw / f"{NAMES[0]}.gz").write_bytes(packed)
    with pytest.raises(DataError, match=f"{NAMES[0]}.gz is "):
        data.load_train(tiny(), tmp_path)
    assert len(data.load_train(tiny(sources.Folder(write(tmp_path / "elsewhere"))), tmp_path)) == TRAIN


def test_published_gz_checksum_counts_while_the_contents_is_unknown(tmp_path):
    raw = write(tmp_path / "Tiny" / "raw", gz=True)
    published = {name: hashlib.md5((raw / f"{name}.gz").read_bytes()).hexdigest() for name in NAMES}
    wrong = dict.fromkeys(NAMES, "0" * 32)
    with pytest.raises(DataError, match=r"its MD5 is .* expected 0000"):
        data.load_train(tiny(md5=None, gz_md5=wrong), tmp_path)
    assert len(data.load_train(tiny(md5=None, gz_md5=published), tmp_path)) == TRAIN
    shutil.rmtree(tmp_path / "Tiny")
    write(raw, gz=True)
    assert len(data.load_train(tiny(md5=MD5, gz_md5=wrong), tmp_path)) == TRAIN


def test_a_data_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be: not even root can write below it")
    with pytest.raises(DataError, match=r"data folder .*Tiny/raw can't be written \(Not a directory\).*--data-root"):
        data.load_train(tiny(), tmp_path / "file")
