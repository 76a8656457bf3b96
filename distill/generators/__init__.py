"""Published generators, of StyleGAN2-ADA, StyleGAN3 and StyleGAN-XL: read without running anything in their files.

generator = load_generator("ffhq.pkl")                    # .resolution, .classes, .z_dim
images = generator(z, labels, truncation=0.7)             # (n, c, h, w), in about [-1, 1]
generator.published(per_class=50)                         # as a published set, for training
"""

from distill.generators.load import PublishedGenerator, load_embeddings, load_generator

__all__ = ["PublishedGenerator", "load_embeddings", "load_generator"]
