"""Published sets: distilled sets outside of their run, their files, and how to load one.

from distill import load
train = load("synthetic.safetensors")      # a file, a folder, models:/digits@best, s3://bucket/...
train.images, train.labels, train.classes, train.lr, train.preprocess(real_pixels), train.dataset()
"""

from distill.published.files import FILE, FILES, read, write
from distill.published.forms import Images, Sampler, Stored, Windows
from distill.published.load import load
from distill.published.published import Published

__all__ = ["FILE", "FILES", "Images", "Published", "Sampler", "Stored", "Windows", "load", "read", "write"]
