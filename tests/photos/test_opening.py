from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from captum_neuroinspect.photos._opening import open_picture


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "big\x1b[2J.png"
    Image.new("L", (40, 30)).save(path)
    return str(path)


def test_a_warning_about_many_pixels_names_the_photo(picture: str, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    named = r"big\\x1b\[2J\.png has 40 x 30 pixels, more than Pillow's limit of 1000"
    with pytest.warns(Image.DecompressionBombWarning, match=named) as caught:
        open_picture(picture).close()
    assert len(caught) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(Image.DecompressionBombError):
        open_picture(picture)


def test_who_turned_the_limit_off_hears_nothing(picture: str, monkeypatch) -> None:
    for limit in (None, 1200):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        open_picture(picture).close()


def test_the_filters_of_warnings_stay_as_they_were_in_threads(picture: str, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = warnings.filters[:]
        with ThreadPoolExecutor(4) as pool:
            for image in pool.map(open_picture, [picture] * 40):
                image.close()
        assert warnings.filters[:] == before
    assert {type(one.message) for one in caught} == {Image.DecompressionBombWarning}
    assert all("big" in str(one.message) for one in caught)
