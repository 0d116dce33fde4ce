"""Weights files of other programs: reads AdelaiDet's, mmdetection's and Caffe's files and converts them."""
