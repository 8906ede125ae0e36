"""A user's photos: folders, tables, data sets and tensors, read as the model sees them."""

from captum_neuroinspect.photos.photos import PhotoDataset, Photos
from captum_neuroinspect.photos.view import Resizing, View

__all__ = ["PhotoDataset", "Photos", "Resizing", "View"]
