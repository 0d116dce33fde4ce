"""Georeferences of GeoTIFFs, beside what rasterio reads."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condinst.data.pictures.georeference import Georeference, read_georeference

tifffile = pytest.importorskip("tifffile", reason="needs the extra tiff")
SCALE = (33550, "d", 3, (0.5, 0.25, 0.0))
TIE = (33922, "d", 6, (2.0, 4.0, 0.0, 500000.0, 4600000.0, 0.0))


def keys(raster: int, key: int, code: int) -> tuple[int, str, int, tuple[int, ...]]:
    return (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, raster, key, 0, 1, code))


def test_scale_and_tie_point(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), extratags=[SCALE, TIE, keys(1, 3072, 32633)])
    found = read_georeference(path)
    assert found == Georeference(0.5, 0, 499999, 0, -0.25, 4600001, 32633)
    assert found.place(2, 4) == (500000, 4600000)
    assert found.mirrored
    assert found.system == "urn:ogc:def:crs:EPSG::32633"


def test_points_of_pixels_and_matrices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "point.tif", np.zeros((20, 30), np.uint8), extratags=[SCALE, TIE, keys(2, 2048, 4326)])
    found = read_georeference(tmp_path / "point.tif")
    assert found is not None
    assert found.place(2.5, 4.5) == (500000, 4600000)  # the centre of the pixel
    assert found.system == "urn:ogc:def:crs:OGC:1.3:CRS84"
    matrix = (0.0, 2.0, 0.0, 10.0, 3.0, 0.0, 0.0, 20.0, *([0.0] * 7), 1.0)
    tifffile.imwrite(tmp_path / "matrix.tif", np.zeros((20, 30), np.uint8), extratags=[(34264, "d", 16, matrix)])
    found = read_georeference(tmp_path / "matrix.tif")
    assert found == Georeference(0, 2, 10, 3, 0, 20, None)
    assert found.place(1, 5) == (20, 23)
    assert found.system is None


def test_pictures_without_one(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "plain.tif")
    Image.new("L", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    for name in ("plain.tif", "plain.png", "damaged.tif"):
        assert read_georeference(tmp_path / name) is None


def test_as_rasterio_reads_it(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    from rasterio.transform import Affine, from_origin

    for number, transform in enumerate((from_origin(300, 7000, 2, 3), Affine(1, 0.5, 9, 0.25, -2, 8))):
        path = tmp_path / f"{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=8, height=6, count=1, dtype="uint8", crs="EPSG:3035", transform=transform
        ) as file:
            file.write(np.zeros((1, 6, 8), np.uint8))
        found = read_georeference(path)
        assert found is not None
        assert found[:6] == pytest.approx(tuple(transform)[:6])
        assert found.epsg == 3035
