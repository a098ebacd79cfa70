from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi, constants
from PIL import Image

from dataunlearn.data import (
    ArrayImages,
    ConcatImages,
    FileImages,
    HubImages,
    ImageSet,
    SubsetImages,
    open_images,
)

GREY = (1, 6, 5)
RGB = (3, 6, 5)
SUFFIXES = ["png", "jpg", "jpeg", "bmp", "webp", "tif", "tiff", "gif", "ppm", "pgm"]


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def collect(images: ImageSet) -> np.ndarray:
    return np.stack([images.pixels(index) for index in range(len(images))])


def image_dataset(array: np.ndarray, labels: list[int] | None = None) -> datasets.Dataset:
    columns: dict[str, list[Any]] = {"picture": [Image.fromarray(row) for row in array]}
    kinds: dict[str, object] = {"picture": datasets.Image()}
    if labels is not None:
        columns["label"] = labels
        kinds["label"] = datasets.ClassLabel(num_classes=10)
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


class TestImageSet:
    def test_batch_maps_bytes_to_minus_one_to_one(self) -> None:
        images = ArrayImages(np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1))
        batch = images.batch(torch.tensor([2, 0, 1, 2]))
        expected = torch.tensor([1.0, -1.0, -0.6, 1.0]).reshape(4, 1, 1, 1)
        torch.testing.assert_close(batch, expected)
        assert batch.dtype == torch.float32

    def test_batch_agrees_between_all_implementations(self, tmp_path: Path) -> None:
        array = random_pixels(5, 6, 5)
        paths = [save(tmp_path / f"{row}.png", array[row]) for row in range(5)]
        in_memory = ArrayImages(array[:, None])
        backwards = ArrayImages(np.ascontiguousarray(array[::-1, None]))
        sets = [
            in_memory,
            FileImages(paths, GREY),
            HubImages(image_dataset(array), GREY),
            SubsetImages(backwards, [4, 3, 2, 1, 0]),
            ConcatImages([SubsetImages(in_memory, [0, 1]), FileImages(paths[2:], GREY)]),
        ]
        indices = torch.tensor([3, 0, 3, 4, 1, 2])
        slow = torch.tensor(array[[3, 0, 3, 4, 1, 2], None] / 127.5 - 1, dtype=torch.float32)
        for images in sets:
            torch.testing.assert_close(images.batch(indices), slow)
            assert images.batch(indices[:0]).shape == (0, *GREY)
            assert images.digests() == in_memory.digests()

    @pytest.mark.parametrize("index", [-1, 3])
    def test_index_out_of_range_is_an_error(self, index: int) -> None:
        images = ArrayImages(random_pixels(3, *GREY))
        with pytest.raises(IndexError, match="3 images"):
            images.batch(torch.tensor([index]))
        with pytest.raises(IndexError, match="3 images"):
            SubsetImages(images, [index])

    def test_digest_is_over_shape_and_bytes(self) -> None:
        array = random_pixels(1, 1, 2, 3)
        images = ArrayImages(array)
        content = np.array([1, 2, 3], "<i8").tobytes() + array.tobytes()
        assert images.digest(0) == hashlib.sha256(content).hexdigest()
        assert images.digest(0) != ArrayImages(array.reshape(1, 1, 3, 2)).digest(0)

    def test_copies_are_decoded_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one = FileImages([save(tmp_path / "a.png", random_pixels(6, 5))], GREY)
        copies = SubsetImages(one, [0] * 606)
        decoded: list[int] = []
        pixels = FileImages.pixels

        def count(self: FileImages, index: int) -> np.ndarray:
            decoded.append(index)
            return pixels(self, index)

        monkeypatch.setattr(FileImages, "pixels", count)
        assert copies.batch(torch.arange(606)).shape == (606, *GREY)
        assert decoded == [0]
        assert len(copies) == 606
        assert set(copies.digests()) == {one.digest(0)}
        assert copies.digests() == copies.digests()
        assert decoded == [0, 0]

    def test_labels(self) -> None:
        array = random_pixels(3, *GREY)
        with_labels = ArrayImages(array, labels=np.array([7, 8, 9]))
        without = ArrayImages(array)
        chosen = SubsetImages(with_labels, [2, 2, 0])
        both = ConcatImages([chosen, with_labels])
        mixed = ConcatImages([with_labels, without])
        found = both.labels(torch.tensor([0, 2, 3, 5]))
        assert found is not None
        torch.testing.assert_close(found, torch.tensor([9, 7, 7, 9]))
        assert both.has_labels and chosen.has_labels
        assert without.labels(torch.tensor([0])) is None
        assert not mixed.has_labels and mixed.labels(torch.tensor([0])) is None
        assert mixed.label(0) == 7 and mixed.label(3) is None

    def test_composed_sets_keep_names(self) -> None:
        images = ArrayImages(random_pixels(3, *GREY), source="digits.npz")
        joined = ConcatImages([SubsetImages(images, [2, 0]), images])
        names = [joined.name(index) for index in range(5)]
        assert names == [f"digits.npz[{index}]" for index in (2, 0, 0, 1, 2)]
        with pytest.raises(IndexError):
            joined.name(5)

    def test_concat_of_different_shapes_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            ConcatImages(
                [ArrayImages(random_pixels(1, *GREY)), ArrayImages(random_pixels(1, *RGB))]
            )
        with pytest.raises(ValueError, match="one shape"):
            ConcatImages([])


class TestArrays:
    @pytest.mark.parametrize("shape", [GREY, RGB])
    def test_layouts(self, shape: tuple[int, int, int]) -> None:
        array = random_pixels(4, *shape)
        layouts = [array, np.moveaxis(array, 1, -1)]
        layouts += [array[:, 0]] if shape[0] == 1 else []
        for layout in layouts:
            np.testing.assert_array_equal(collect(open_images(layout, shape)), array)
        singles = [array[0], np.moveaxis(array[0], 0, -1)]
        singles += [array[0, 0]] if shape[0] == 1 else []
        for single in singles:
            np.testing.assert_array_equal(collect(open_images(single, shape)), array[:1])

    def test_three_planes_are_three_grey_pictures_or_one_in_colour(self) -> None:
        array = random_pixels(3, 6, 5)
        assert len(open_images(array, GREY)) == 3
        assert len(open_images(array, RGB)) == 1

    def test_ambiguous_layout_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="could be any of"):
            open_images(random_pixels(4, 6, 5), RGB)
        with pytest.raises(ValueError, match="is no layout"):
            open_images(random_pixels(7), GREY)

    def test_floats_in_unit_range_round_to_bytes(self) -> None:
        array = random_pixels(4, *GREY)
        for dtype in (np.float16, np.float32, np.float64):
            as_floats = (array / 255).astype(dtype)
            np.testing.assert_array_equal(collect(open_images(as_floats, GREY)), array)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
    def test_tensor(self, dtype: torch.dtype) -> None:
        array = random_pixels(4, *RGB)
        tensor = torch.tensor(array) if dtype == torch.uint8 else torch.tensor(array).float() / 255
        np.testing.assert_array_equal(collect(open_images(tensor, RGB)), array)
        assert open_images(tensor.bfloat16() / tensor.max(), RGB).shape == RGB

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (np.full(GREY, -0.5), r"floats from -0.5 .* uint8 .* \[0, 1\]"),
            (np.full(GREY, 255.0), r"to 255; convert it to uint8"),
            (np.full(GREY, np.nan), "NaN"),
            (np.full(GREY, np.inf), "inf"),
            (np.ones(GREY, np.int64), "int64; convert it to uint8"),
            (np.full(GREY, None), "Python objects"),
            (np.zeros((0, *GREY), np.uint8), "no images"),
        ],
    )
    def test_bad_values_are_errors(self, value: np.ndarray, message: str) -> None:
        with pytest.raises(ValueError, match=rf"forget images: array .*{message}"):
            open_images(value, GREY, role="forget")

    def test_wrong_size_names_both_sizes_and_the_option(self) -> None:
        with pytest.raises(ValueError, match=r"array\[0\] is 9x7 .* 6x5.*--resize"):
            open_images(random_pixels(2, 9, 7), GREY)

    def test_pillow_image_and_list(self) -> None:
        array = random_pixels(3, 6, 5)
        pictures = [Image.fromarray(row) for row in array]
        np.testing.assert_array_equal(collect(open_images(pictures, GREY)), array[:, None])
        np.testing.assert_array_equal(collect(open_images(pictures[0], GREY)), array[:1, None])
        with pytest.raises(ValueError, match=r"image\[1\] is 5x5"):
            open_images([pictures[0], Image.new("L", (5, 5))], GREY)
        with pytest.raises(ValueError, match=r"keep images: .*empty"):
            open_images([], GREY)

    def test_image_set_is_checked_and_returned(self, tmp_path: Path) -> None:
        images = ArrayImages(random_pixels(2, *GREY))
        assert open_images(images, GREY) is images
        with pytest.raises(ValueError, match=r"forget images: .*shape"):
            open_images(images, RGB, role="forget")
        with pytest.raises(ValueError, match="no images"):
            open_images(SubsetImages(images, []), GREY)
        broken = FileImages([tmp_path / "missing.png"], GREY)
        with pytest.raises(ValueError, match=r"missing\.png"):
            open_images(ConcatImages([images, SubsetImages(broken, [0])]), GREY)

    def test_unknown_object_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="cannot open an object of type dict"):
            open_images({"a": 1}, GREY)  # type: ignore[arg-type]


class TestArrayFiles:
    def test_npy(self, tmp_path: Path) -> None:
        array = random_pixels(3, 6, 5)
        np.save(tmp_path / "shirt.npy", array)
        images = open_images(tmp_path / "shirt.npy", GREY)
        np.testing.assert_array_equal(collect(images), array[:, None])
        assert images.name(2) == "shirt.npy[2]"

    @pytest.mark.parametrize("key", ["images", "x", "data", "arr_0", "anything"])
    def test_npz_default_key_and_labels(self, tmp_path: Path, key: str) -> None:
        array = random_pixels(3, 6, 5)
        path = tmp_path / "digits.npz"
        arrays: dict[str, Any] = {key: array, "y": np.array([4, 5, 6]), "scale": np.float32(2)}
        np.savez(path, **arrays)
        images = open_images(str(path), GREY)
        np.testing.assert_array_equal(collect(images), array[:, None])
        assert [images.label(index) for index in range(3)] == [4, 5, 6]
        assert images.name(1) == "digits.npz[1]"

    def test_npz_key_is_chosen(self, tmp_path: Path) -> None:
        train, test = random_pixels(3, 6, 5), random_pixels(2, 6, 5, seed=1)
        path = tmp_path / "digits.npz"
        np.savez(path, train=train, test=test, labels=np.array([1, 2, 3]))
        chosen = open_images(f"{path}:test", GREY)
        np.testing.assert_array_equal(collect(chosen), test[:, None])
        assert not chosen.has_labels, "three labels do not belong to two images"
        assert open_images(f"{path}:train", GREY).has_labels
        with pytest.raises(ValueError, match=r"digits\.npz:KEY from: train, test, labels"):
            open_images(path, GREY)
        with pytest.raises(ValueError, match="no array 'valid'; it has: train, test, labels"):
            open_images(f"{path}:valid", GREY)

    def test_one_picture_of_an_array_is_chosen(self, tmp_path: Path) -> None:
        test = random_pixels(2, 6, 5)
        path = tmp_path / "digits.npz"
        np.savez(path, test=test)
        chosen = open_images(f"{path}:test[1]", GREY)
        np.testing.assert_array_equal(collect(chosen), test[1:, None])
        assert chosen.name(0) == "digits.npz:test[1]"
        with pytest.raises(ValueError, match="the array has 2 pictures"):
            open_images(f"{path}:test[2]", GREY)

    def test_labels_of_another_length_are_left_out(self, tmp_path: Path) -> None:
        """One picture (6, 5) has six rows, but it is one image, not six."""
        np.savez(tmp_path / "a.npz", x=random_pixels(6, 5), y=np.arange(6))
        images = open_images(tmp_path / "a.npz", GREY)
        assert len(images) == 1 and not images.has_labels

    def test_preferred_key_goes_before_others(self, tmp_path: Path) -> None:
        array = random_pixels(3, 6, 5)
        np.savez(tmp_path / "a.npz", masks=array[:1], x=array[:2], images=array)
        assert len(open_images(tmp_path / "a.npz", GREY)) == 3

    def test_objects_and_damage_are_refused(self, tmp_path: Path) -> None:
        objects = np.array([{"a": 1}], dtype=object)
        np.save(tmp_path / "a.npy", objects, allow_pickle=True)
        np.savez(tmp_path / "b.npz", images=objects)
        (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 no archive")
        for name in ("a.npy", "b.npz", "c.npz"):
            with pytest.raises(ValueError, match=rf"keep images: .*{name}.* Python objects"):
                open_images(tmp_path / name, GREY)


class TestFolders:
    def test_recursive_sorted_with_labels(self, tmp_path: Path) -> None:
        array = random_pixels(3, 6, 5)
        save(tmp_path / "7" / "b.PNG", array[1])
        save(tmp_path / "7" / "a.bmp", array[0])
        save(tmp_path / "9" / "a.png", array[2])
        save(tmp_path / ".cache" / "a.png", random_pixels(2, 2))
        (tmp_path / "7" / "notes.txt").write_text("no image")
        images = open_images(tmp_path, GREY)
        np.testing.assert_array_equal(collect(images), array[:, None])
        assert [images.label(index) for index in range(3)] == [7, 7, 9]
        assert images.name(0) == str(tmp_path / "7" / "a.bmp")

    @pytest.mark.parametrize("place", ["cat/c.png", "c.png"])
    def test_no_labels_unless_every_folder_is_an_integer(self, tmp_path: Path, place: str) -> None:
        save(tmp_path / "7" / "a.png", random_pixels(6, 5))
        save(tmp_path / place, random_pixels(6, 5))
        assert not open_images(tmp_path, GREY).has_labels

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_one_file_of_every_kind(self, tmp_path: Path, suffix: str) -> None:
        path = save(tmp_path / f"a.{suffix}", np.full((6, 5), 255, np.uint8))
        images = open_images(path, GREY)
        assert len(images) == 1
        assert images.pixels(0).min() >= 250
        assert images.name(0) == str(path)

    def test_empty_folder_and_unknown_file(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no image")
        with pytest.raises(ValueError, match=r"forget images: folder .* no image files \(png"):
            open_images(tmp_path, GREY, role="forget")
        with pytest.raises(ValueError, match=r"notes\.txt is of no known kind"):
            open_images(tmp_path / "notes.txt", GREY)

    def test_damaged_files_are_collected(self, tmp_path: Path) -> None:
        save(tmp_path / "good.png", random_pixels(6, 5))
        whole = save(tmp_path / "cut.png", random_pixels(6, 5)).read_bytes()
        (tmp_path / "cut.png").write_bytes(whole[:-30])
        (tmp_path / "text.jpg").write_text("no image")
        big = save(tmp_path / "big.jpg", random_pixels(90, 90)).read_bytes()
        (tmp_path / "big.jpg").write_bytes(big[: len(big) // 2])
        save(tmp_path / "size.png", random_pixels(9, 7))
        with pytest.raises(ValueError) as caught:
            open_images(tmp_path, GREY, role="forget")
        message = str(caught.value)
        assert message.startswith("forget images: 4 of 5 cannot be used")
        assert [name in message for name in ("cut.png", "text.jpg", "big.jpg", "size.png")] == [
            True
        ] * 4
        assert "good.png" not in message
        assert re.search(r"size\.png is 9x7 .* 6x5; .*--resize", message)
        assert re.search(r"big\.jpg cannot be read", message)

    def test_only_the_first_ten_bad_names(self, tmp_path: Path) -> None:
        for index in range(14):
            save(tmp_path / f"{index:02}.png", random_pixels(9, 7))
        with pytest.raises(ValueError, match="the first 10 of 14") as caught:
            open_images(tmp_path, GREY)
        assert "09.png" in str(caught.value) and "10.png" not in str(caught.value)

    def test_bad_checksum_is_found(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", random_pixels(6, 5))
        content = bytearray(path.read_bytes())
        content[content.index(b"IEND") - 5] ^= 0xFF  # the last byte of the pixels' checksum
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png cannot be read"):
            open_images(path, GREY)

    def test_large_folder_is_checked_with_progress(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for index in range(501):
            save(tmp_path / f"{index}.pgm", random_pixels(6, 5, seed=index))
        assert len(set(open_images(tmp_path, GREY).digests())) == 501
        assert capfd.readouterr().out == ""


class TestConversion:
    def test_grey_into_rgb_is_replicated(self, tmp_path: Path) -> None:
        array = random_pixels(6, 5)
        images = open_images(save(tmp_path / "a.png", array), RGB)
        np.testing.assert_array_equal(images.pixels(0), np.stack([array] * 3))

    def test_grey_rgb_into_grey_is_accepted_but_colour_is_not(self, tmp_path: Path) -> None:
        array = random_pixels(6, 5)
        grey = save(tmp_path / "grey.png", np.stack([array] * 3, axis=-1))
        np.testing.assert_array_equal(open_images(grey, GREY).pixels(0)[0], array)
        colour = save(tmp_path / "colour.png", random_pixels(6, 5, 3))
        with pytest.raises(ValueError, match=r"colour\.png is in colour"):
            open_images(colour, GREY)

    def test_alpha(self, tmp_path: Path) -> None:
        array = random_pixels(6, 5, 4)
        array[..., 3] = 255
        opaque = open_images(save(tmp_path / "opaque.png", array), RGB)
        np.testing.assert_array_equal(opaque.pixels(0), np.moveaxis(array[..., :3], -1, 0))
        array[..., 3] = random_pixels(6, 5, seed=1)
        blended = open_images(save(tmp_path / "clear.png", array), RGB).pixels(0)
        alpha = array[..., 3:] / 255
        expected = array[..., :3] * alpha + 255 * (1 - alpha)
        assert np.abs(np.moveaxis(blended, 0, -1) - expected).max() <= 0.5 + 1e-9

    def test_palette_with_transparency(self, tmp_path: Path) -> None:
        picture = Image.new("P", (5, 6), 1)
        picture.putpalette([0, 0, 0, 200, 200, 200])
        picture.save(tmp_path / "solid.png")
        assert (open_images(tmp_path / "solid.png", GREY).pixels(0) == 200).all()
        picture.save(tmp_path / "clear.png", transparency=1)
        assert (open_images(tmp_path / "clear.png", GREY).pixels(0) == 255).all()

    def test_sixteen_bits_are_refused(self, tmp_path: Path) -> None:
        path = save(tmp_path / "deep.png", np.full((6, 5), 40_000, np.uint16))
        with pytest.raises(ValueError, match=r"deep\.png has pixel mode I.* 8-bit"):
            open_images(path, GREY)

    def test_exif_orientation_is_applied(self, tmp_path: Path) -> None:
        array = random_pixels(5, 6)
        exif = Image.Exif()
        exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
        path = save(tmp_path / "a.png", array, exif=exif)
        np.testing.assert_array_equal(open_images(path, GREY).pixels(0)[0], np.rot90(array, -1))

    def test_resize_crops_the_centre_then_uses_lanczos(self, tmp_path: Path) -> None:
        array = random_pixels(12, 20, 3)
        path = save(tmp_path / "wide.png", array)
        cropped = Image.fromarray(array[:, 5:15])  # 12 x 10 has the ratio of 6 x 5
        expected = np.array(cropped.resize((5, 6), Image.Resampling.LANCZOS))
        for source in (path, array, Image.fromarray(array)):
            resized = open_images(source, RGB, resize=True).pixels(0)
            np.testing.assert_array_equal(np.moveaxis(resized, 0, -1), expected)

    def test_resize_leaves_fitting_pictures_alone(self) -> None:
        array = random_pixels(3, *RGB)
        np.testing.assert_array_equal(collect(open_images(array, RGB, resize=True)), array)


class TestDatasets:
    def test_saved_dataset(self, tmp_path: Path) -> None:
        array = random_pixels(3, 6, 5)
        image_dataset(array, [3, 4, 5]).save_to_disk(str(tmp_path / "saved"))
        images = open_images(tmp_path / "saved", GREY)
        np.testing.assert_array_equal(collect(images), array[:, None])
        labels = images.labels(torch.tensor([2, 0]))
        assert labels is not None and labels.dtype == torch.int64 and labels.tolist() == [5, 3]
        assert images.name(1) == f"{tmp_path / 'saved'}[1]"

    def test_dict_takes_train_or_the_only_split_or_the_chosen(self, tmp_path: Path) -> None:
        parts = {
            "test": image_dataset(random_pixels(2, 6, 5)),
            "train": image_dataset(random_pixels(3, 6, 5)),
        }
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "both"))
        datasets.DatasetDict(test=parts["test"]).save_to_disk(str(tmp_path / "one"))
        del parts["train"]
        parts["valid"] = parts["test"]
        datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "no_train"))
        assert len(open_images(tmp_path / "both", GREY)) == 3
        assert len(open_images(tmp_path / "one", GREY)) == 2
        chosen = open_images(f"{tmp_path}/both#test", GREY)
        assert len(chosen) == 2 and chosen.name(0) == f"{tmp_path}/both#test[0]"
        with pytest.raises(ValueError, match=r"no split 'train'.* from: test, valid"):
            open_images(tmp_path / "no_train", GREY)
        with pytest.raises(ValueError, match=r"no split 'dev'.* from: test, train"):
            open_images(f"{tmp_path}/both#dev", GREY)

    def test_columns(self) -> None:
        array = random_pixels(2, 6, 5)
        dataset = image_dataset(array).add_column("labels", [8, 9])
        assert [HubImages(dataset, GREY).label(index) for index in range(2)] == [8, 9]
        words = image_dataset(array).add_column("label", ["a", "b"])
        assert not HubImages(words, GREY).has_labels
        assert not HubImages(image_dataset(array, [-1, 3]), GREY).has_labels
        as_torch = HubImages(dataset.with_format("torch"), GREY)
        np.testing.assert_array_equal(collect(as_torch), array[:, None])
        with pytest.raises(ValueError, match="exactly one image column"):
            HubImages(dataset.remove_columns("picture"), GREY)

    def test_rows_are_checked(self, tmp_path: Path) -> None:
        image_dataset(random_pixels(2, 9, 7)).save_to_disk(str(tmp_path / "saved"))
        with pytest.raises(ValueError, match=r"forget images: 2 of 2 .*\n.*saved\[0\] is 9x7"):
            open_images(tmp_path / "saved", GREY, role="forget")

    @pytest.mark.parametrize(
        "path", ["http://example.com/a.png", "hf://datasets/a/b/c.png", "ABSOLUTE", "../a.png"]
    )
    def test_rows_that_name_a_file_or_an_address_are_refused(
        self, path: str, tmp_path: Path
    ) -> None:
        """A saved dataset holds its pictures; what it names may be anybody's."""
        outside = save(tmp_path / "a.png", random_pixels(6, 5))
        path = str(outside) if path == "ABSOLUTE" else path
        kinds = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        rows = datasets.Dataset.from_dict(
            {"image": [{"bytes": None, "path": path}] * 2}, datasets.Features({"image": kinds})
        )
        rows.save_to_disk(str(tmp_path / "saved"))
        facts = tmp_path / "saved" / "dataset_info.json"
        info = json.loads(facts.read_text())
        info["features"]["image"] = {"_type": "Image"}
        facts.write_text(json.dumps(info))
        with pytest.raises(ValueError, match=f"names {re.escape(repr(path))}.*outside"):
            open_images(tmp_path / "saved", GREY, role="forget")

    def test_hub_id_and_split(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded = datasets.DatasetDict(
            train=image_dataset(random_pixels(3, 6, 5)), test=image_dataset(random_pixels(2, 6, 5))
        )
        asked: list[str] = []

        def load(name: str) -> datasets.DatasetDict:
            asked.append(name)
            return loaded

        monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **settings: None)
        monkeypatch.setattr(datasets, "load_dataset", load)
        assert open_images("owner/digits", GREY).name(2) == "owner/digits#train[2]"
        assert open_images("owner/digits#test", GREY).name(0) == "owner/digits#test[0]"
        assert asked == ["owner/digits", "owner/digits"]

    def test_no_network_says_which_local_forms_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The hub is asked once, for a short while, then what was fetched earlier is looked at."""
        asked: list[Any] = []

        def offline(*args: Any, **settings: Any) -> None:
            asked.append(settings)
            raise OSError("no network (with advice)")

        def load(name: str) -> None:
            asked.append((name, datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
            raise ConnectionError("not in the cache")

        before = datasets.config.HF_HUB_OFFLINE
        monkeypatch.setattr(HfApi, "dataset_info", offline)
        monkeypatch.setattr(datasets, "load_dataset", load)
        with pytest.raises(ValueError, match=r"keep images: .*ylecun/mnist.*: no network;.*\.npz"):
            open_images("ylecun/mnist", GREY)
        assert asked == [{"timeout": 5}, ("ylecun/mnist", True, True)]
        assert before == datasets.config.HF_HUB_OFFLINE

    def test_a_mistyped_name_in_a_folder_that_is_there(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **settings: pytest.fail("asked"))
        (tmp_path / "data").mkdir()
        for name in ("data/keep", "data/keep#train"):
            with pytest.raises(ValueError, match=r"no 'keep' in the folder data here.*hub id"):
                open_images(name, GREY)

    @pytest.mark.parametrize(
        "name", ["mnist", "./owner/name", "/no/where", "a/b/c", "owner/cat.png", "mnist.npz:x"]
    )
    def test_other_names_never_reach_the_hub(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **settings: pytest.fail("asked"))
        monkeypatch.setattr(datasets, "load_dataset", lambda name: pytest.fail("asked the hub"))
        with pytest.raises(ValueError, match=f"forget images: there is no .*{re.escape(name)}"):
            open_images(name, GREY, role="forget")

    def test_local_path_goes_before_the_hub(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(tmp_path / "owner" / "name" / "a.png", random_pixels(6, 5))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(datasets, "load_dataset", lambda name: pytest.fail("asked the hub"))
        assert len(open_images("owner/name", GREY)) == 1
        with pytest.raises(ValueError, match="no saved dataset"):
            open_images("owner/name#test", GREY)
