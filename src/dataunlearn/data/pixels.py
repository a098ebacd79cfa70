"""From any 8-bit picture to the model's shape: colour modes, channels, size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from dataunlearn.data.base import Pixels

_GREY_MODES = ("1", "L")
_OPAQUE_MODES = ("RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "P")
_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def image_to_pixels(image: Image.Image) -> Pixels:
    """The pixels of a pillow image, upright.

    The EXIF orientation is applied; of an animation or a multi-page file the first frame counts.

    Args:
        image: Any image with at most 8 bits a channel.

    Returns:
        uint8 ``(1, H, W)`` for grey, ``(3, H, W)`` for colour, ``(4, H, W)`` with transparency.

    Raises:
        ValueError: If the image has more than 8 bits a channel.
    """
    if image.mode not in _GREY_MODES + _OPAQUE_MODES + _ALPHA_MODES:
        raise ValueError(f"has pixel mode {image.mode}, not 8 bits a channel; save it as 8-bit PNG")
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _ALPHA_MODES or "transparency" in upright.info:
        mode = "RGBA"
    else:
        mode = "L" if upright.mode in _GREY_MODES else "RGB"
    array = np.array(upright.convert(mode))  # (H, W) or (H, W, c)
    return np.ascontiguousarray(np.moveaxis(np.atleast_3d(array), 2, 0))


def fit_pixels(pixels: Pixels, shape: tuple[int, int, int], *, resize: bool = False) -> Pixels:
    """One picture in the model's shape, or an error that says why not.

    Transparency is dropped where the picture is fully opaque and flattened on white otherwise;
    grey becomes RGB by replication and RGB with three equal channels becomes grey, both without
    loss.

    Args:
        pixels: uint8 ``(c, h, w)`` with c of 1 to 4 or the model's own number of channels.
        shape: ``(C, H, W)`` of the model.
        resize: Whether another size is centre-cropped to the aspect ratio and resized (Lanczos).

    Returns:
        uint8 ``(C, H, W)``; the input itself where it already fits.

    Raises:
        ValueError: If the channels cannot be converted, or the size differs without ``resize``.
    """
    if pixels.shape == shape:
        return pixels
    fitted = _fit_channels(pixels, shape[0])
    size, wanted = fitted.shape[1:], shape[1:]
    if size == wanted:
        return fitted
    if not resize:
        raise ValueError(
            f"is {size[0]}x{size[1]} pixels (height x width), the model takes "
            f"{wanted[0]}x{wanted[1]}; give images of that size, or pass --resize (resize=True) "
            "to centre-crop and resize them"
        )
    return _crop_and_resize(fitted, wanted[0], wanted[1])


def _fit_channels(pixels: Pixels, num_channels: int) -> Pixels:
    if len(pixels) == num_channels:
        return pixels
    if len(pixels) in (2, 4):
        pixels = _flatten_on_white(pixels[:-1], pixels[-1])
        if len(pixels) == num_channels:
            return pixels
    if len(pixels) == 1:
        return np.repeat(pixels, num_channels, axis=0)
    if num_channels == 1 and len(pixels) == 3:
        if (pixels == pixels[:1]).all():
            return pixels[:1]
        raise ValueError(
            "is in colour, the model takes grey images (1 channel); convert it to grey first"
        )
    raise ValueError(f"has {len(pixels)} channels, the model takes {num_channels}")


def _flatten_on_white(colour: Pixels, alpha: Pixels) -> Pixels:
    """``(c, h, w)`` blended with white by ``alpha`` ``(h, w)``; exact where alpha is 255."""
    opacity = alpha.astype(np.int64)
    blended: Any = (colour * opacity + 255 * (255 - opacity) + 127) // 255
    return np.asarray(blended, dtype=np.uint8)


def _crop_and_resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """``(c, h, w)`` centre-cropped to aspect ratio ``height : width``, then resized by Lanczos."""
    old_height, old_width = pixels.shape[1:]
    scale = min(old_height / height, old_width / width)
    crop_height, crop_width = max(1, round(scale * height)), max(1, round(scale * width))
    top, left = (old_height - crop_height) // 2, (old_width - crop_width) // 2
    cropped = np.ascontiguousarray(pixels[:, top : top + crop_height, left : left + crop_width])
    size = (width, height)
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS))
        for plane in cropped
    ]
    return np.stack(planes)


def to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """Images ``(N, C, H, W)`` in [-1, 1] as uint8 ``(N, H, W, C)``, rounded."""
    pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()
