"""Segment very many pictures on a Ray cluster: `predict_manifest`. Needs the extra `ray`."""

from condinst.ray.run import Summary, predict_manifest

__all__ = ["Summary", "predict_manifest"]
