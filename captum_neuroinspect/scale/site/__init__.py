"""A page to browse an atlas by: static files, made from the pairs that are there."""

from captum_neuroinspect.scale.site.growing import GrowingSite, write_atlas_site

__all__ = ["GrowingSite", "write_atlas_site"]
